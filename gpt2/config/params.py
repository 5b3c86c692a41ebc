"""What may stand in `params.yaml`, and the shape of a model: typed, frozen, validated.

Each class mirrors one section of the file; those of the data are in `gpt2/config/data.py`. No field has a default: the
file is the only place where a value is set. What stands below a field is its meaning in docs/params.md.
"""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from gpt2.config.data import DataParams, DocstringsParams, TokenizerParams, TokensParams
from gpt2.config.schema import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Probability,
    Section,
    Share,
    Text,
    TextList,
)

# --- model and training --------------------------------------------------------------------------------------------


class ModelParams(Section):
    """The shape of the model that is pretrained; its vocabulary comes from the tokenizer."""

    block_size: PositiveInt
    """context length in tokens"""
    n_layer: PositiveInt
    """blocks"""
    n_embd: PositiveInt
    """width of the residual stream"""
    n_head: PositiveInt
    """attention heads in a block; must divide n_embd"""
    dropout: Probability
    """share of activations that training sets to zero: after the embeddings, of attention, in each block"""

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
    """tokens that have an embedding"""


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

    steps: PositiveInt
    """optimizer steps"""
    batch_size: PositiveInt
    """samples in one optimizer step, over all processes"""
    micro_batch_size: PositiveInt
    """samples in one forward pass of one process; must divide batch_size"""
    optimizer: Literal["adamw", "muon"]
    """muon: for the matrices of the blocks, AdamW for all else"""
    schedule: Literal["cosine", "wsd"]
    """of the learning rate after warmup; wsd: constant, then a linear fall"""
    lr: PositiveFloat
    """peak learning rate"""
    min_lr_rate: Share
    """learning rate at the last step, as a share of lr"""
    warmup_steps: NonNegativeInt
    """steps in which the learning rate rises from zero to lr"""
    decay_rate: Share
    """wsd: share of the steps, the last ones, in which the learning rate falls; what warmup leaves, at most"""
    weight_decay: NonNegativeFloat
    """of matrices and embeddings; biases and norms have none"""
    beta1: Probability
    """of AdamW: decay of the mean of the gradient"""
    beta2: Probability
    """of AdamW: decay of the mean of its square"""
    grad_clip: PositiveFloat
    """largest global norm of the gradient"""
    precision: Literal["auto", "float32", "bfloat16"]
    """of matrix products; auto: bfloat16 where the hardware has it"""
    compile: Literal["auto", "always", "never"]
    """torch.compile; auto: where it can work"""
    eval_every: PositiveInt
    """steps from one evaluation to the next"""
    checkpoint_every: PositiveInt
    """steps from one checkpoint to the next; an interrupted run goes on from the last"""

    @field_validator("micro_batch_size")
    @classmethod
    def _divides_batch_size(cls, micro_batch_size: int, info: ValidationInfo) -> int:
        batch_size = info.data.get("batch_size")
        if batch_size is not None and batch_size % micro_batch_size:
            raise ValueError(f"must divide batch_size = {batch_size}")
        return micro_batch_size


class TrainParams(OptimParams):
    """Pretraining."""

    init: Literal["scratch", "gpt2"]
    """the model to start from: scratch, GPT-2's initialization in the shape of `model`; gpt2, data/models/gpt2"""
    steps: NonNegativeInt
    """optimizer steps; 0: the model stays as it begins, and is only evaluated"""
    launcher: Text
    """the command that starts the worker processes, such as torchrun's"""
    val_tokens: PositiveInt
    """tokens of the validation split that each evaluation reads"""
    sample_prompt: str
    """continued at each evaluation; may be empty"""
    sample_tokens: PositiveInt
    """tokens of that continuation"""
    hellaswag_every: PositiveInt | None
    """steps from one score of data/raw/hellaswag to the next, a multiple of eval_every; blank: never"""

    @field_validator("hellaswag_every")
    @classmethod
    def _falls_on_evaluations(cls, every: int | None, info: ValidationInfo) -> int | None:
        eval_every = info.data.get("eval_every")
        if every and eval_every and every % eval_every:
            raise ValueError(f"must be a multiple of eval_every = {eval_every}")
        return every


class FineTuneParams(OptimParams):
    """Training that goes on from a trained model and ends with the weights of the lowest validation loss."""

    init: Literal["pretrain", "gpt2"]
    """the model to start from: data/models/pretrain or data/models/gpt2"""
    patience: PositiveInt | None
    """evaluations in a row without a lower validation loss that end training; blank: none does"""


class LoRAParams(Section):
    """Low-rank adapters (Hu et al. 2021)."""

    rank: PositiveInt
    """of each update"""
    alpha: PositiveFloat
    """the update is scaled by alpha / rank"""
    dropout: Probability
    """share of an adapter's inputs that training sets to zero"""
    targets: Annotated[
        tuple[Literal["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"], ...], Field(min_length=1, strict=False)
    ]
    """which layers of each block have an adapter"""

    @field_validator("targets")
    @classmethod
    def _unique(cls, targets: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(targets)) < len(targets):
            raise ValueError("names a layer twice")
        return targets


class ClassificationParams(FineTuneParams):
    """Fine-tuning a classification head."""

    trainable: Literal["all", "last_blocks", "head", "lora"]
    """what learns besides the head; last_blocks: so many, with ln_f; lora: adapters in every block"""
    last_blocks: PositiveInt
    """how many blocks train when trainable is last_blocks"""
    lora: LoRAParams
    """the adapters, when trainable is lora"""
    class_weights: Literal["none", "balanced"]
    """in the training loss; balanced: each label counts alike"""


class JudgeParams(Section):
    """A language model on a server that scores answers."""

    url: Annotated[str, Field(pattern=r"^https?://[^\s/]\S*$")] | None
    """an OpenAI-compatible API, such as http://localhost:11434/v1; blank: nothing is judged"""
    model: Text | None
    """the judge, as that server names it; needed with url"""

    @field_validator("model")
    @classmethod
    def _named_with_url(cls, model: str | None, info: ValidationInfo) -> str | None:
        if model is None and info.data.get("url"):
            raise ValueError(f"must name a model of url = {info.data['url']!r}")
        return model


class InstructionParams(FineTuneParams):
    """Fine-tuning on instructions."""

    method: Literal["full", "lora"]
    """full: all weights learn; lora: adapters alone, merged at the end"""
    lora: LoRAParams
    """the adapters, when method is lora"""
    responses: PositiveInt
    """test examples that are answered in full, before and after"""
    response_tokens: PositiveInt
    """longest answer"""
    judge: JudgeParams
    """scores answers before and after"""


# --- evaluation ----------------------------------------------------------------------------------------------------


class ParityParams(Section):
    """How much is compared with transformers."""

    prompts: PositiveInt
    """number of texts that are continued greedily"""
    tokens: Annotated[int, Field(ge=4)]
    """length of the longest prompt, and of every continuation; the shortest prompt has half as many"""


class HellaSwagParams(Section):
    """How completions are scored."""

    precision: Literal["auto", "float32", "bfloat16"]
    """of matrix products; auto: bfloat16 where the hardware has it"""


class AttentionParams(Section):
    """What the attention figures and the page show."""

    prompts: TextList
    """texts whose attention is drawn: of 3 to 128 tokens each, and within every model's context"""


class Params(Section):
    """The whole of `params.yaml`."""

    seed: Annotated[int, Field(ge=0, lt=2**63)]
    """of all that is drawn by chance: initialization, order of batches, dropout, samples"""
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
