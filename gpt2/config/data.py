"""What may stand in the sections docstrings, data, tokenizer and tokens of `params.yaml`: where text comes from."""

from typing import Annotated, Literal

from pydantic import Field

from gpt2.config.schema import PositiveInt, Section, Text, TextList


class DocstringsParams(Section):
    """The text that `pip` has already put on the machine: the docstrings of these installed packages."""

    packages: TextList
    """import names of the packages, e.g. sklearn"""
    min_words: PositiveInt
    """docstrings of fewer words are left out"""
    heldout: Annotated[float, Field(gt=0, lt=0.5)]
    """share of documents for validation, and the same again for test"""


class HubParams(Section):
    """A data set on the hub."""

    repo: Text
    """owner/name"""
    revision: Text
    """branch, tag or commit"""
    config: Text | None
    """one of the data set's configurations; blank: its only one, or its default"""


class CorpusHubParams(HubParams):
    """Text on the hub: the files of a configuration's split, or the files of some paths."""

    split: Text
    """of the configuration"""
    files: TextList | None
    """patterns of paths in the repository; these are taken in place of config and split; blank: config and split say"""


class FilesParams(Section):
    """Files of one's own."""

    files: Text
    """a path or glob below the data set's folder in data/local"""


class CorpusParams(Section):
    """Where the pretraining text comes from, and how much of it to take."""

    source: Literal["docstrings", "hub", "local"]
    """docstrings: those of `docstrings`; hub: a data set on the hub; local: files in data/local/corpus"""
    hub: CorpusHubParams
    local: FilesParams
    text_column: Text
    """of hub and local: the column that holds the text"""
    max_files: PositiveInt | None
    """of hub and local: the first so many files; blank: all"""
    max_documents: PositiveInt | None
    """of hub and local: the first so many documents; blank: all"""
    max_tokens: PositiveInt | None
    """of hub and local: the first so many tokens, counted by the column token_count, which FineWeb has; blank: all"""


class HubSplitsParams(HubParams):
    """The splits of a data set on the hub, by name."""

    train: Text
    """the split to train on"""
    val: Text | None
    """the split for validation; blank: held out of train"""
    test: Text | None
    """the split to test on; blank: held out of train"""


class LocalSplitsParams(Section):
    """The splits of a data set of one's own: paths or globs below its folder in data/local."""

    train: Text
    """files to train on"""
    val: Text | None
    """files for validation; blank: held out of train"""
    test: Text | None
    """files to test on; blank: held out of train"""


class ExamplesParams(Section):
    """Where a labelled set comes from and how much of it to keep."""

    source: Literal["docstrings", "hub", "local"]
    """docstrings: those of `docstrings`; hub: a data set on the hub; local: files below data/local"""
    max_train: PositiveInt | None
    """examples to train on, at most; blank: all"""
    max_eval: PositiveInt | None
    """examples in validation, and as many in test, at most; blank: all"""
    heldout: Annotated[float, Field(gt=0, lt=0.5)]
    """share of train for val, and for test, where they are blank"""
    hub: HubSplitsParams
    local: LocalSplitsParams


class InstructionColumns(Section):
    """The columns of an instruction set, as its source calls them."""

    instruction: Text
    """column of what is asked"""
    input: Text | None
    """column of what it is asked about; blank: there is none"""
    output: Text
    """column of the answer"""


class InstructionsDataParams(ExamplesParams):
    """Instructions with their answers."""

    columns: InstructionColumns


class ClassificationColumns(Section):
    """The columns of a labelled set, as its source calls them."""

    text: Text
    """column of the text"""
    label: Text
    """column of its label"""


class ClassificationDataParams(ExamplesParams):
    """Texts with their labels."""

    columns: ClassificationColumns
    names: TextList | None
    """of the labels 0, 1, ...; blank: what the data set calls them, or the labels as they stand"""


class HellaSwagHubParams(HubParams):
    """HellaSwag on the hub."""

    split: Text
    """of the data set"""


class HellaSwagDataParams(Section):
    """Where the multiple-choice completions come from."""

    source: Literal["docstrings", "hub", "local"]
    """docstrings: made of those of `docstrings`; hub: a data set on the hub; local: files in data/local/hellaswag"""
    max_examples: PositiveInt | None
    """rows, at most; blank: all"""
    hub: HellaSwagHubParams
    local: FilesParams


class Gpt2SourceParams(Section):
    """OpenAI's weights: fetched from the hub, taken from data/local/gpt2, or left out."""

    source: Literal["none", "hub", "local"]
    """none: left out; hub: fetched; local: taken from data/local/gpt2"""
    repo: Text
    """owner/name on the hub"""
    revision: Text
    """branch, tag or commit"""


class DataParams(Section):
    """One section a download stage."""

    corpus: CorpusParams
    instructions: InstructionsDataParams
    classification: ClassificationDataParams
    hellaswag: HellaSwagDataParams
    gpt2: Gpt2SourceParams


class TokenizerParams(Section):
    """The vocabulary."""

    source: Literal["train", "gpt2", "checkpoint"] = "train"
    """train: learned from the corpus; gpt2: OpenAI's, from tiktoken; checkpoint: that of data/models/gpt2"""
    vocab_size: Annotated[int, Field(ge=257, le=65536)]
    """tokens of a trained vocabulary, including 256 bytes and <|endoftext|>; ids are uint16"""


class TokensParams(Section):
    """How the corpus becomes files of token ids."""

    shard_tokens: Annotated[int, Field(ge=1024)] = 1_000_000
    """largest number of tokens in a file"""
    heldout: Annotated[float, Field(gt=0, lt=0.5)] = 0.01
    """share of documents for validation if the corpus has no splits; at least one document"""
    executor: Literal["local", "slurm", "ray"] = "local"
    """where tasks run: this machine, Slurm (set SBATCH_PARTITION, SBATCH_TIMELIMIT) or Ray (pip install ray)"""
    workers: PositiveInt | None = None
    """tasks that run at a time; blank: one per processor, on a cluster all"""
