"""Typed, frozen, validated settings: what may stand in `params.yaml`, and the shape of a model.

Each class mirrors one section of the file. No field has a default: the file is the only place where a value is set.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from gpt2.errors import InputError

PositiveInt = Annotated[int, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Probability = Annotated[float, Field(ge=0, lt=1)]
Text = Annotated[str, Field(min_length=1)]
TextList = Annotated[tuple[Text, ...], Field(min_length=1, strict=False)]  # YAML gives a list; tuples cannot be changed


class Section(BaseModel):
    """A section of `params.yaml`: unknown keys are refused, types are not coerced, values cannot be reassigned."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


# --- data ----------------------------------------------------------------------------------------------------------


class DocstringsParams(Section):
    """The text that `pip` has already put on the machine: the docstrings of these installed packages."""

    packages: TextList  # import names, e.g. sklearn
    min_words: PositiveInt  # shorter docstrings are left out
    heldout: Annotated[float, Field(gt=0, lt=0.5)]  # share of documents for validation, and the same again for test


class CorpusParams(Section):
    """Where the pretraining text comes from."""

    source: Literal["docstrings"]


class ExamplesParams(Section):
    """Where a labelled set comes from and how much of it to keep."""

    source: Literal["docstrings"]
    max_train: PositiveInt  # examples
    max_eval: PositiveInt  # examples in validation, and as many in test


class HellaSwagDataParams(Section):
    """Where the multiple-choice completions come from."""

    source: Literal["docstrings"]
    max_examples: PositiveInt


class Gpt2SourceParams(Section):
    """OpenAI's weights: fetched from the hub, or left out."""

    source: Literal["none", "hub"]
    repo: Text  # owner/name on the hub
    revision: Text  # branch, tag or commit


class DataParams(Section):
    """One section a download stage."""

    corpus: CorpusParams
    instructions: ExamplesParams
    classification: ExamplesParams
    hellaswag: HellaSwagDataParams
    gpt2: Gpt2SourceParams


class TokenizerParams(Section):
    """The vocabulary: trained here on the corpus, or GPT-2's own."""

    source: Literal["train", "gpt2"]
    vocab_size: Annotated[int, Field(ge=257, le=65536)]  # 256 bytes and <|endoftext|> at the least; ids are uint16


class TokensParams(Section):
    """How the token stream is cut into files."""

    shard_tokens: Annotated[int, Field(ge=1024)]


# --- model and training --------------------------------------------------------------------------------------------


class ModelParams(Section):
    """The shape of the model that is pretrained; its vocabulary comes from the tokenizer."""

    block_size: PositiveInt  # context length in tokens
    n_layer: PositiveInt
    n_embd: PositiveInt
    n_head: PositiveInt
    dropout: Probability

    @field_validator("n_head")
    @classmethod
    def _divides_n_embd(cls, n_head: int, info: ValidationInfo) -> int:
        n_embd = info.data.get("n_embd")
        if n_embd is not None and n_embd % n_head:
            raise ValueError(f"must divide n_embd = {n_embd}")
        return n_head


class GPTConfig(ModelParams):
    """Everything that fixes the shapes of a GPT-2."""

    vocab_size: PositiveInt


OPENAI_SHAPES = {  # Radford et al. 2019, table 2; the heads are 64 wide
    "gpt2": {"n_layer": 12, "n_head": 12, "n_embd": 768},
    "gpt2-medium": {"n_layer": 24, "n_head": 16, "n_embd": 1024},
    "gpt2-large": {"n_layer": 36, "n_head": 20, "n_embd": 1280},
    "gpt2-xl": {"n_layer": 48, "n_head": 25, "n_embd": 1600},
}


def openai_config(name: str) -> GPTConfig:
    """The configuration of one of OpenAI's four models, as released: dropout 0.1, 1,024 positions, 50,257 tokens."""
    return GPTConfig(block_size=1024, vocab_size=50257, dropout=0.1, **OPENAI_SHAPES[name])


class OptimParams(Section):
    """One training run: how long, how large the batches, how fast."""

    steps: PositiveInt  # optimizer steps
    batch_size: PositiveInt  # samples in one optimizer step, over all processes
    micro_batch_size: PositiveInt  # samples in one forward pass of one process
    lr: PositiveFloat  # peak learning rate
    min_lr: NonNegativeFloat  # at the last step
    warmup_steps: NonNegativeInt
    weight_decay: NonNegativeFloat
    beta1: Probability
    beta2: Probability
    grad_clip: PositiveFloat  # largest global norm of the gradient
    precision: Literal["auto", "float32", "bfloat16"]  # of matrix products; auto: bfloat16 where the hardware has it
    compile: Literal["auto", "always", "never"]  # torch.compile; auto: where it can work
    eval_every: PositiveInt  # steps
    checkpoint_every: PositiveInt  # steps

    @field_validator("micro_batch_size")
    @classmethod
    def _divides_batch_size(cls, micro_batch_size: int, info: ValidationInfo) -> int:
        batch_size = info.data.get("batch_size")
        if batch_size is not None and batch_size % micro_batch_size:
            raise ValueError(f"must divide batch_size = {batch_size}")
        return micro_batch_size

    @field_validator("min_lr")
    @classmethod
    def _at_most_lr(cls, min_lr: float, info: ValidationInfo) -> float:
        lr = info.data.get("lr")
        if lr is not None and min_lr > lr:
            raise ValueError(f"must be at most lr = {lr}")
        return min_lr


class TrainParams(OptimParams):
    """Pretraining."""

    launcher: Text  # the command that starts the worker processes
    val_tokens: PositiveInt  # tokens of the validation split that each evaluation reads
    sample_prompt: str  # continued at each evaluation; may be empty
    sample_tokens: PositiveInt


class ClassificationParams(OptimParams):
    """Fine-tuning a classification head."""

    init: Literal["pretrain", "gpt2"]  # the model to start from
    trainable: Literal["all", "last_blocks", "head"]  # what is not frozen
    last_blocks: PositiveInt  # how many blocks train, with ln_f, when trainable is last_blocks


class LoRAParams(Section):
    """Low-rank adapters (Hu et al. 2021)."""

    rank: PositiveInt
    alpha: PositiveFloat  # the update is scaled by alpha / rank
    dropout: Probability
    targets: Annotated[
        tuple[Literal["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"], ...], Field(min_length=1, strict=False)
    ]

    @field_validator("targets")
    @classmethod
    def _unique(cls, targets: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(targets)) < len(targets):
            raise ValueError("names a layer twice")
        return targets


class InstructionParams(OptimParams):
    """Fine-tuning on instructions."""

    init: Literal["pretrain", "gpt2"]
    method: Literal["full", "lora"]
    lora: LoRAParams
    responses: PositiveInt  # test examples that are answered in full, before and after
    response_tokens: PositiveInt  # longest answer


# --- evaluation ----------------------------------------------------------------------------------------------------


class ParityParams(Section):
    """How much is compared with transformers."""

    prompts: PositiveInt
    prompt_tokens: PositiveInt
    new_tokens: PositiveInt  # greedy tokens a prompt


class HellaSwagParams(Section):
    """How completions are scored."""

    batch_size: PositiveInt  # examples of four rows


class AttentionParams(Section):
    """What the attention figures show."""

    prompts: TextList


class Params(Section):
    """The whole of `params.yaml`."""

    seed: Annotated[int, Field(ge=0, lt=2**63)]
    docstrings: DocstringsParams
    data: DataParams
    tokenizer: TokenizerParams
    tokens: TokensParams
    model: ModelParams
    train: TrainParams
    classification: ClassificationParams
    instruction: InstructionParams
    parity: ParityParams
    hellaswag: HellaSwagParams
    attention: AttentionParams


def parse(section: type[Section], raw: object, where: str):
    """Validates `raw`, what YAML gave, as `section`.

    Raises InputError with one line: file, key, value and what is allowed; further mistakes are counted.
    """
    try:
        return section.model_validate(raw)
    except ValidationError as error:
        first, *others = error.errors(include_url=False)
        key = ".".join(str(part) for part in first["loc"]) or "the file"
        more = f" (and {len(others)} more)" if others else ""
        raise InputError(f"{where}: {key} {_explain(section, first)}{more}") from None


def _explain(section: type[Section], error: dict) -> str:
    """What is wrong with the key that a pydantic error is about, and what is allowed."""
    if error["type"] == "missing":
        return "is missing"
    value = f"= {error['input']!r}"
    if error["type"] != "extra_forbidden":
        return f"{value}: {error['msg'].removeprefix('Value error, ')}"
    for name in error["loc"][:-1]:
        section = section.model_fields[name].annotation if issubclass(section, Section) else None
        if not isinstance(section, type):  # a mapping or list of sections: its keys are not ours to list
            return f"{value}: an unknown key"
    return f"{value}: an unknown key; expected one of {', '.join(section.model_fields)}"
