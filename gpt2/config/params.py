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

Precision = Literal["auto", "float32", "tf32", "bfloat16", "float16"]
Steps = Annotated[tuple[NonNegativeInt, ...], Field(strict=False)]

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

    vocab_size: Annotated[int, Field(gt=0, le=65536)]
    """number of rows of the token embedding; tokens are stored in 16 bits"""
    n_inner: PositiveInt | None = None
    """width inside the MLP; blank: 4 * n_embd"""


class RunParams(Section):
    """One training run: its length, its batches and its peak learning rate."""

    steps: PositiveInt
    """optimizer steps"""
    batch_size: PositiveInt
    """samples per optimizer step, summed over all processes"""
    lr: PositiveFloat
    """peak learning rate"""
    warmup_steps: NonNegativeInt = 0
    """steps over which the learning rate rises linearly from zero to lr; limited to one less than steps"""
    weight_decay: NonNegativeFloat = 0.1
    """weight decay of matrices and embeddings; biases and LayerNorms have none"""
    precision: Precision = "auto"
    """precision of matrix products; auto: bfloat16 where the hardware supports it, otherwise float16 on a CUDA device
    and float32 elsewhere; tf32 is for CUDA devices"""
    eval_every: PositiveInt = 100
    """steps between evaluations"""


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


class TrainParams(OptimParams):
    """Pretraining."""

    init: Literal["scratch", "gpt2"] = "scratch"
    """initial weights; scratch: random, in the shape of the section model; gpt2: those in data/models/gpt2"""
    steps: NonNegativeInt
    """optimizer steps; 0: the initial model is evaluated and saved unchanged"""
    val_tokens: PositiveInt = 65536
    """tokens of the validation split that each evaluation reads; at least one window of model.block_size"""
    snapshots: PositiveInt | Steps | None = None
    """steps whose models are kept in data/models/snapshots: a list, or a number n for every n-th step; blank: none"""


class FineTuneParams(RunParams):
    """Training that continues from a trained model and keeps the weights with the lowest validation loss.

    `gpt2/training/optim.py` sets the optimizer and the schedule, which are the same for every fine-tuning.
    """

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
    """number of blocks that train if trainable is last_blocks; limited to the model's"""
    lora: LoRAParams = LoRAParams()
    """the adapters if trainable is lora"""


class InstructionParams(FineTuneParams):
    """Fine-tuning on instructions."""

    method: Literal["full", "lora"] = "full"
    """full: all weights train; lora: only adapters, merged at the end"""
    lora: LoRAParams = LoRAParams()
    """the adapters if method is lora"""
    answers: Literal["last", "all"] = "last"
    """the answers of a conversation to train on; validation and test always score the last one"""


# --- evaluation ----------------------------------------------------------------------------------------------------


class SamplesParams(Section):
    """The texts that the pretrained model and its snapshots write."""

    prompts: TextList
    """texts to continue; <|endoftext|> starts a new document"""
    max_new_tokens: PositiveInt = 48
    """maximum number of tokens per text"""


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


class ResponsesParams(Section):
    """The answers of the instruction-tuned model and of the model that tuning started from."""

    examples: PositiveInt = 100
    """number of test examples for which answers are generated"""
    max_new_tokens: PositiveInt = 128
    """maximum number of tokens per answer"""
    judge: JudgeParams = JudgeParams()
    """scores the answers from before and after training"""


class ParityParams(Section):
    """The size of the comparison with transformers."""

    prompts: PositiveInt
    """number of prompts that are continued greedily"""
    tokens: Annotated[int, Field(ge=4)]
    """length of the longest prompt, and number of tokens generated per prompt; limited to half of the context"""


class HellaSwagParams(Section):
    """HellaSwag scoring."""

    precision: Precision = "auto"
    """precision of matrix products; auto: bfloat16 where the hardware supports it, otherwise float16 on a CUDA device
    and float32 elsewhere; tf32 is for CUDA devices"""
    snapshots: PositiveInt | None = None
    """number of examples on which each snapshot is scored too, with the completion protocol; blank: none"""


class AttentionParams(Section):
    """The prompts of the attention figures and the report."""

    prompts: TextList
    """texts whose attention is shown: 3 tokens or more each; those of more than 128, or of more than the context of a
    model, are cut"""


# --- how the work is done -----------------------------------------------------------------------------------------


class MachineParams(Section):
    """How the work is done: settings that depend on the machine. No stage declares them, so that a change reruns
    nothing. They affect rounding and, with dropout, the masks."""

    launcher: Text = "python"
    """shell command that starts the processes of training, such as torchrun"""
    micro_batch_size: PositiveInt | Literal["auto"] = "auto"
    """maximum number of samples per forward pass of one process; gradients accumulate to the batch size; auto: a power
    of two, on a CUDA device the largest that fits, elsewhere the largest of at most 4,096 tokens"""
    recompute: bool = False
    """computes the activations of each block again in the backward pass, which saves memory and takes a third more
    operations"""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """where models run, except for parity and attention, which use the CPU; auto: cuda, else mps (the GPU of a Mac, for
    one process), else cpu"""
    compile: Literal["auto", "always", "never"] = "auto"
    """torch.compile for pretraining; auto: on Linux, where there is a C++ compiler"""
    checkpoint_every: PositiveInt = 100
    """training steps between checkpoints; an interrupted run resumes from the last one"""
    executor: Literal["local", "slurm", "ray"] = "local"
    """where tokenization runs: this machine; Slurm (pip install datatrove), whose partition and time limit the
    environment variables SBATCH_PARTITION and SBATCH_TIMELIMIT set; or Ray (pip install datatrove ray)"""
    workers: PositiveInt | None = None
    """number of tokenization tasks that run at a time; blank: one per processor, or all tasks on a cluster"""
    logger: Literal["none", "tensorboard", "wandb"] = "none"
    """where training rows go besides csv files: tensorboard (pip install tensorboard) or wandb (pip install wandb)"""


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
    samples: SamplesParams
    responses: ResponsesParams
    parity: ParityParams
    hellaswag: HellaSwagParams
    attention: AttentionParams
    machine: MachineParams
