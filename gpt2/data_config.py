"""What may stand in the sections docstrings, data, tokenizer and tokens of `params.yaml`: where text comes from."""

from typing import Annotated, Literal

from pydantic import Field

from gpt2.section import PositiveInt, Section, Text, TextList


class DocstringsParams(Section):
    """The text that `pip` has already put on the machine: the docstrings of these installed packages."""

    packages: TextList  # import names, e.g. sklearn
    min_words: PositiveInt  # shorter docstrings are left out
    heldout: Annotated[float, Field(gt=0, lt=0.5)]  # share of documents for validation, and the same again for test


class HubParams(Section):
    """A data set on the hub."""

    repo: Text  # owner/name
    revision: Text  # branch, tag or commit
    config: Text | None  # one of the data set's configurations; null: its only one, or its default


class CorpusHubParams(HubParams):
    """Text on the hub: the files of a configuration's split, or the files of some paths."""

    split: Text
    files: TextList | None  # patterns of paths in the repository; these are taken in place of config and split


class FilesParams(Section):
    """Files of one's own."""

    files: Text  # a path or glob, below the data set's folder in data/local


class CorpusParams(Section):
    """Where the pretraining text comes from, and how much of it to take."""

    source: Literal["docstrings", "hub", "local"]
    hub: CorpusHubParams
    local: FilesParams
    text_column: Text  # of hub and local
    max_files: PositiveInt | None  # limits for hub and local: the first so many
    max_documents: PositiveInt | None
    max_tokens: PositiveInt | None  # as the column token_count has them, which FineWeb brings


class HubSplitsParams(HubParams):
    """The splits of a data set on the hub, by name."""

    train: Text
    val: Text | None  # null: held out of train
    test: Text | None  # null: held out of train


class LocalSplitsParams(Section):
    """The splits of a data set of one's own: paths or globs below its folder in data/local."""

    train: Text
    val: Text | None  # null: held out of train
    test: Text | None  # null: held out of train


class ExamplesParams(Section):
    """Where a labelled set comes from and how much of it to keep."""

    source: Literal["docstrings", "hub", "local"]
    max_train: PositiveInt | None  # examples; null: all
    max_eval: PositiveInt | None  # examples in validation, and as many in test; null: all
    heldout: Annotated[float, Field(gt=0, lt=0.5)]  # share of train for val, and for test, where they are null
    hub: HubSplitsParams
    local: LocalSplitsParams


class InstructionColumns(Section):
    """The columns of an instruction set, as its source calls them."""

    instruction: Text
    input: Text | None  # null: it has none
    output: Text


class InstructionsDataParams(ExamplesParams):
    """Instructions with their answers."""

    columns: InstructionColumns


class ClassificationColumns(Section):
    """The columns of a labelled set, as its source calls them."""

    text: Text
    label: Text


class ClassificationDataParams(ExamplesParams):
    """Texts with their labels."""

    columns: ClassificationColumns
    names: TextList | None  # of the labels 0, 1, ...; null: what the data set calls them, or the labels as they stand


class HellaSwagHubParams(HubParams):
    """HellaSwag on the hub."""

    split: Text


class HellaSwagDataParams(Section):
    """Where the multiple-choice completions come from."""

    source: Literal["docstrings", "hub", "local"]
    max_examples: PositiveInt | None  # null: all
    hub: HellaSwagHubParams
    local: FilesParams


class Gpt2SourceParams(Section):
    """OpenAI's weights: fetched from the hub, taken from data/local/gpt2, or left out."""

    source: Literal["none", "hub", "local"]
    repo: Text  # owner/name on the hub
    revision: Text  # branch, tag or commit


class DataParams(Section):
    """One section a download stage."""

    corpus: CorpusParams
    instructions: InstructionsDataParams
    classification: ClassificationDataParams
    hellaswag: HellaSwagDataParams
    gpt2: Gpt2SourceParams


class TokenizerParams(Section):
    """The vocabulary: trained here on the corpus, OpenAI's as tiktoken has it, or that of data/models/gpt2."""

    source: Literal["train", "gpt2", "checkpoint"]
    vocab_size: Annotated[int, Field(ge=257, le=65536)]  # 256 bytes and <|endoftext|> at the least; ids are uint16


class SlurmParams(Section):
    """What a Slurm cluster needs to be told."""

    partition: Text
    time: Text  # limit for a task, e.g. 02:00:00


class TokensParams(Section):
    """How the corpus becomes files of tokens."""

    shard_tokens: Annotated[int, Field(ge=1024)]  # in a file, at most
    heldout: Annotated[float, Field(gt=0, lt=0.5)]  # share of documents for validation where the corpus has no splits
    executor: Literal["local", "slurm", "ray"]
    workers: PositiveInt | None  # files that are worked on at a time; null: one a processor, on a cluster all
    slurm: SlurmParams
