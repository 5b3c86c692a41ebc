"""The sections docstrings, data, tokenizer and tokens of `params.yaml`: where text comes from, how it is tokenized."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from gpt2.config.schema import PositiveInt, Section, Text, TextList

Repo = Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+(@[\w./-]+)?$")]
Paths = Annotated[TextList, BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]


class DocstringsParams(Section):
    """Docstrings of installed packages, which serve as data without a download."""

    packages: TextList
    """import names of the packages, e.g. sklearn"""
    heldout: Annotated[float, Field(gt=0, lt=0.5)]
    """share of documents for validation; the test set gets the same share"""


class CorpusParams(Section):
    """The source of the pretraining text, and how much of it to read."""

    source: Literal["docstrings", "hub", "local"] = "docstrings"
    """docstrings: from `docstrings`; hub: a data set on the Hugging Face hub; local: files in data/local/corpus"""
    repo: Repo = "HuggingFaceFW/fineweb-edu"
    """hub: owner/name, or owner/name@revision with a branch, tag or commit"""
    config: Text | None = "sample-10BT"
    """hub: a configuration of the data set; blank: its only one, or its default"""
    split: Text = "train"
    """hub: a split of the configuration"""
    files: Paths | None = None
    """paths or globs, one or a list. hub: files of the repository to read in place of config and split; local: files
    below data/local/corpus; blank: every table and every .txt there"""
    text_column: Text = "text"
    """hub and local: the column of a table that contains the text"""
    documents: Literal["file", "paragraph"] = "file"
    """hub and local: what is a document in plain text (.txt, .md): the whole file, or each paragraph between blank
    lines"""
    max_documents: PositiveInt | None = None
    """hub and local: maximum number of documents to read; blank: all"""
    max_tokens: PositiveInt | None = None
    """hub and local: maximum number of tokens to read, counted by the column token_count as in FineWeb; blank: all"""


class ExamplesParams(Section):
    """The source of labeled examples, and how many of them to keep."""

    source: Literal["docstrings", "hub", "local"] = "docstrings"
    """docstrings: from `docstrings`; hub: a data set on the Hugging Face hub; local: files below data/local"""
    repo: Repo
    """hub: owner/name, or owner/name@revision with a branch, tag or commit"""
    config: Text | None = None
    """hub: a configuration of the data set; blank: its only one, or its default"""
    train: Text = "train"
    """the examples to train on. hub: a split; local: a path or glob below the set's folder in data/local"""
    val: Text | None = None
    """the examples for validation, as for train; blank: 5% of train, at least one"""
    test: Text | None = None
    """the examples to test on, as for train; blank: 5% of train, at least one"""
    max_train: PositiveInt | None = None
    """maximum number of training examples; blank: all"""
    max_eval: PositiveInt | None = None
    """maximum number of validation examples, and of test examples; blank: all"""


class InstructionColumns(Section):
    """The names of the columns in the source of the instructions."""

    instruction: Text = "instruction"
    """column of the instruction"""
    input: Text | None = "input"
    """column of the text that the instruction is about; blank: no such column"""
    output: Text = "output"
    """column of the answer"""
    messages: Text | None = None
    """column of conversations, which takes the place of the other three: lists of turns {role, content} or {from,
    value}; blank: no such column"""


class InstructionsDataParams(ExamplesParams):
    """Instructions with their answers."""

    repo: Repo = "tatsu-lab/alpaca"
    """hub: owner/name, or owner/name@revision with a branch, tag or commit"""
    columns: InstructionColumns = InstructionColumns()


class ClassificationColumns(Section):
    """The names of the columns in the source of the texts."""

    text: Text = "sentence"
    """column of the text"""
    label: Text = "label"
    """column of the label"""


class ClassificationDataParams(ExamplesParams):
    """Texts with their labels."""

    repo: Repo = "stanfordnlp/sst2"
    """hub: owner/name, or owner/name@revision with a branch, tag or commit"""
    columns: ClassificationColumns = ClassificationColumns()
    names: TextList | None = None
    """names of the labels 0, 1, ...; blank: the names that the data set gives them, or the labels unchanged"""


class HellaSwagDataParams(Section):
    """The source of the multiple-choice completions."""

    source: Literal["docstrings", "hub", "local"] = "docstrings"
    """docstrings: made from `docstrings`; hub: a data set on the hub; local: every table in data/local/hellaswag"""
    repo: Repo = "Rowan/hellaswag"
    """hub: owner/name, or owner/name@revision with a branch, tag or commit"""
    split: Text = "validation"
    """hub: a split of the data set"""
    max_examples: PositiveInt | None = None
    """maximum number of examples; blank: all"""


class Gpt2SourceParams(Section):
    """OpenAI's weights: downloaded, taken from data/local/gpt2, or not used."""

    source: Literal["none", "hub", "local"] = "none"
    """none: not used; hub: downloaded; local: taken from data/local/gpt2"""
    repo: Repo = "openai-community/gpt2"
    """hub: owner/name, or owner/name@revision with a branch, tag or commit"""


class DataParams(Section):
    """One section per download stage."""

    corpus: CorpusParams = CorpusParams()
    instructions: InstructionsDataParams = InstructionsDataParams()
    classification: ClassificationDataParams = ClassificationDataParams()
    hellaswag: HellaSwagDataParams = HellaSwagDataParams()
    gpt2: Gpt2SourceParams = Gpt2SourceParams()


class TokenizerParams(Section):
    """The vocabulary."""

    source: Literal["train", "gpt2", "checkpoint"] = "train"
    """train: learned from the corpus; gpt2: OpenAI's, from tiktoken; checkpoint: that of data/models/gpt2"""
    vocab_size: Annotated[int, Field(ge=257, le=65536)]
    """size of a trained vocabulary, including 256 bytes and <|endoftext|>; ids are uint16"""


class TokensParams(Section):
    """Tokenization of the corpus into shards of token ids."""

    shard_tokens: Annotated[int, Field(ge=1024, le=1_000_000_000)] = 1_000_000
    """maximum number of tokens per file"""
    heldout: Annotated[float, Field(gt=0, lt=0.5)] = 0.01
    """share of the text for validation if the corpus has no splits: whole documents, at least one; or blocks within
    documents, where a few long documents make up the corpus"""
