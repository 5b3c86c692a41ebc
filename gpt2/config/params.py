"""The sections of `params.yaml`, and the shape of a model: typed, frozen, validated.

Each class describes one section of the file. The sections about data are in `gpt2/config/data.py`. Defaults are
for code that constructs a section; `params.yaml` has every field (see `stages/params.py`), because DVC cannot see the
defaults of a class. The string below a field is its description in docs/params.md.
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

Precision = Literal["auto", "float32", "bfloat16"]

# --- model and training --------------------------------------------------------------------------------------------


class ModelParams(Section):
    """The shape of the model to pretrain. The tokenizer determines its vocabulary size."""

    block_size: PositiveInt
    """context length in tokens"""
    n_layer: PositiveInt
    """number of blocks"""
    n_embd: PositiveInt
    """width of the residual stream"""
    n_head: PositiveInt
    """attention heads per block; must divide n_embd"""
    dropout: Probability = 0.0
    """dropout probability after the embeddings, on the attention weights, and on the outputs of attention and MLP"""

    @field_validator("n_head")
    @classmethod
    def _divides_n_embd(cls, n_head: int, info: ValidationInfo) -> int:
        n_embd = info.data.get("n_embd")
        if n_embd is not None and n_embd % n_head:
            raise ValueError(f"must divide n_embd = {n_embd}")
        return n_head


class GPTConfig(ModelParams):
    """Everything that determines the shapes of a GPT-2."""

    vocab_size: PositiveInt
    """number of tokens in the vocabulary"""


class RunParams(Section):
    """One training run: its length, its batches and its peak learning rate."""

    steps: PositiveInt
    """optimizer steps"""
    batch_size: PositiveInt
    """samples per optimizer step, summed over all processes"""
    micro_batch_size: PositiveInt
    """samples per forward pass of one process; must divide batch_size"""
    lr: PositiveFloat
    """peak learning rate"""
    warmup_steps: NonNegativeInt = 0
    """steps over which the learning rate rises linearly from zero to lr"""
    weight_decay: NonNegativeFloat = 0.1
    """weight decay of matrices and embeddings; biases and LayerNorms have none"""
    precision: Precision = "auto"
    """precision of matrix products; auto: bfloat16 where the hardware supports it"""
    compile: Literal["auto", "always", "never"] = "auto"
    """torch.compile; auto: where it is supported"""
    eval_every: PositiveInt = 100
    """steps between evaluations"""

    @field_validator("micro_batch_size")
    @classmethod
    def _divides_batch_size(cls, micro_batch_size: int, info: ValidationInfo) -> int:
        batch_size = info.data.get("batch_size")
        if batch_size is not None and batch_size % micro_batch_size:
            raise ValueError(f"must divide batch_size = {batch_size}")
        return micro_batch_size


class OptimParams(RunParams):
    """A training run with its optimizer and the course of its learning rate."""

    optimizer: Literal["adamw", "muon"] = "adamw"
    """muon: Muon for the matrices of the blocks, AdamW for all other parameters"""
    schedule: Literal["cosine", "wsd"] = "cosine"
    """learning rate after the warmup; cosine: half a cosine; wsd: constant, then a linear decay"""
    min_lr_rate: Share = 0.1
    """learning rate at the last step, as a fraction of lr"""
    decay_rate: Share = 0.2
    """wsd: fraction of the steps, at the end, in which the rate decays; limited to the steps after the warmup"""
    beta2: Probability = 0.95
    """AdamW: decay rate of the running mean of the squared gradient"""
    grad_clip: PositiveFloat = 1.0
    """maximum global norm of the gradient"""
    checkpoint_every: PositiveInt = 100
    """steps between checkpoints; an interrupted run resumes from the last one"""


class TrainParams(OptimParams):
    """Pretraining."""

    init: Literal["scratch", "gpt2"] = "scratch"
    """initial weights; scratch: random, in the shape of the section model; gpt2: those in data/models/gpt2"""
    steps: NonNegativeInt
    """optimizer steps; 0: the initial model is evaluated and saved unchanged"""
    launcher: Text = "python"
    """shell command that starts the worker processes, such as torchrun"""
    val_tokens: PositiveInt = 65536
    """tokens of the validation split that each evaluation reads"""
    sample_prompt: str = ""
    """text that the model continues at each evaluation; may be empty"""
    hellaswag_every: PositiveInt | None = None
    """steps between HellaSwag scores, a multiple of eval_every; blank: no scores during training"""

    @field_validator("hellaswag_every")
    @classmethod
    def _falls_on_evaluations(cls, every: int | None, info: ValidationInfo) -> int | None:
        eval_every = info.data.get("eval_every")
        if every and eval_every and every % eval_every:
            raise ValueError(f"must be a multiple of eval_every = {eval_every}")
        return every


class FineTuneParams(RunParams):
    """Training that continues from a trained model and keeps the weights with the lowest validation loss.

    `gpt2/training/optim.py` sets the optimizer and the schedule, which are the same for every fine-tuning.
    """

    eval_every: PositiveInt = 100
    """steps between evaluations; a checkpoint is written at the same steps"""
    init: Literal["pretrain", "gpt2"] = "pretrain"
    """the model to start from: data/models/pretrain or data/models/gpt2"""
    patience: PositiveInt | None = None
    """stops after this many consecutive evaluations without improvement; blank: no early stopping"""


class LoRAParams(Section):
    """Low-rank adapters (Hu et al. 2021)."""

    rank: PositiveInt = 8
    """rank of each update"""
    alpha: PositiveFloat = 16.0
    """the update is scaled by alpha / rank"""
    targets: Annotated[
        tuple[Literal["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"], ...], Field(min_length=1, strict=False)
    ] = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    """layers of each block that get an adapter"""

    @field_validator("targets")
    @classmethod
    def _unique(cls, targets: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(targets)) < len(targets):
            raise ValueError("names a layer twice")
        return targets


class ClassificationParams(FineTuneParams):
    """Fine-tuning with a classification head."""

    trainable: Literal["all", "last_blocks", "head", "lora"] = "all"
    """what trains besides the head; last_blocks: the last blocks and ln_f; lora: adapters in every block"""
    last_blocks: PositiveInt = 1
    """number of blocks that train if trainable is last_blocks"""
    lora: LoRAParams = LoRAParams()
    """the adapters if trainable is lora"""


class JudgeParams(Section):
    """A language model on a server that scores answers."""

    url: Annotated[str, Field(pattern=r"^https?://[^\s/]\S*$")] | None = None
    """base URL of an OpenAI-compatible API, such as http://localhost:11434/v1; blank: no judge"""
    model: Annotated[Text | None, Field(validate_default=True)] = None
    """the server's name for the model; required with url"""

    @field_validator("model")
    @classmethod
    def _named_with_url(cls, model: str | None, info: ValidationInfo) -> str | None:
        if model is None and info.data.get("url"):
            raise ValueError(f"must name a model of url = {info.data['url']!r}")
        return model


class InstructionParams(FineTuneParams):
    """Fine-tuning on instructions."""

    method: Literal["full", "lora"] = "full"
    """full: all weights train; lora: only adapters, merged at the end"""
    lora: LoRAParams = LoRAParams()
    """the adapters if method is lora"""
    responses: PositiveInt = 100
    """number of test examples for which answers are generated, before and after training"""
    response_tokens: PositiveInt = 128
    """maximum number of tokens per answer"""
    judge: JudgeParams = JudgeParams()
    """scores the answers from before and after training"""


# --- evaluation ----------------------------------------------------------------------------------------------------


class ParityParams(Section):
    """The size of the comparison with transformers."""

    prompts: PositiveInt
    """number of prompts that are continued greedily"""
    tokens: Annotated[int, Field(ge=4)]
    """length of the longest prompt, and number of tokens generated per prompt"""


class HellaSwagParams(Section):
    """HellaSwag scoring."""

    precision: Precision = "auto"
    """precision of matrix products; auto: bfloat16 where the hardware supports it"""


class AttentionParams(Section):
    """The prompts of the attention figures and the report."""

    prompts: TextList
    """texts whose attention is shown: 3 to 128 tokens each, and no longer than the context of any model shown"""


class Params(Section):
    """All of `params.yaml`."""

    seed: Annotated[int, Field(ge=0, lt=2**63)]
    """seed for all random choices: initialization, order of batches, dropout, samples"""
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
