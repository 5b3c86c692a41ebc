"""Pretraining: next-token prediction on a token stream."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from gpt2.common.errors import InputError
from gpt2.config.params import GPTConfig, TrainParams
from gpt2.generation.generate import complete
from gpt2.generation.sampling import Sampling
from gpt2.model.checkpoint import load_with_tokenizer
from gpt2.model.gpt import GPT
from gpt2.runtime.device import device_name, peak_flops, peak_memory
from gpt2.runtime.world import World
from gpt2.tokenizer.tokenizer import Tokenizer
from gpt2.tokens.shards import TokenStream
from gpt2.training.trainer import History, Trainer, mean_loss

SAMPLING = Sampling(temperature=0.8, top_k=50)  # for the texts generated during training
SAMPLE_TOKENS = 48  # length of the continuation that each evaluation keeps


@dataclass
class Pretrained:
    """A finished run."""

    model: GPT
    history: History
    metrics: dict  # depends only on the inputs
    throughput: dict  # also depends on the machine


class TokenWindows:
    """A token stream as samples of `block_size` tokens that do not overlap; the last partial window is dropped."""

    lengths = None  # all windows have the same length

    def __init__(self, stream: TokenStream, block_size: int, max_tokens: int | None = None):
        """Uses at most `max_tokens` of the stream. Raises InputError if no window and its last target fit."""
        tokens = min(len(stream), max_tokens or len(stream))
        self.stream, self.block_size, self.n_windows = stream, block_size, (tokens - 1) // block_size
        if self.n_windows < 1:
            raise InputError(
                f"the {stream.split} split gives {tokens} tokens, fewer than one window of model.block_size = "
                f"{block_size} and its target"
            )

    def __len__(self) -> int:
        return self.n_windows

    def batch(self, ids: np.ndarray) -> tuple[Tensor, Tensor]:
        """Inputs and targets (B, T) in int64: the targets are the inputs one token later."""
        windows = np.stack([self.stream.read(i * self.block_size, self.block_size + 1) for i in ids.tolist()])
        tokens = torch.from_numpy(windows.astype(np.int64))  # (B, T + 1)
        return tokens[:, :-1], tokens[:, 1:]

    def targets(self, ids: np.ndarray) -> int:
        """Every position is scored."""
        return len(ids) * self.block_size


def openai_model(directory: Path, tokenizer: Tokenizer) -> GPT:
    """The GPT-2 of a checkpoint directory.

    Raises InputError if it is missing, or if `tokenizer`, which encoded the token stream, is not the checkpoint's.
    """
    model, expected = load_with_tokenizer(directory, "cpu")  # Trainer moves it to this process's device
    if tokenizer.fingerprint != expected.fingerprint:
        raise InputError(
            f"train.init = 'gpt2', but the tokens are not of its vocabulary of {expected.vocab_size}; "
            "set tokenizer.source to checkpoint"
        )
    return model


def pretrain(
    model: GPT,
    train_data: TokenWindows,
    val_data: TokenWindows,
    tokenizer: Tokenizer,
    params: TrainParams,
    *,
    seed: int,
    scratch: Path,
    world: World,
    score: Callable[[GPT], dict[str, float]] | None = None,
) -> Pretrained:
    """Trains `model` to predict the next token. Raises InputError if training diverges.

    Every `params.hellaswag_every` steps, the metrics that `score` returns are added to those of the evaluation.
    """

    def evaluate(model: nn.Module, step: int) -> dict[str, float]:
        figures = {"loss": mean_loss(model, val_data, params.micro_batch_size, world)}
        if params.hellaswag_every and step % params.hellaswag_every == 0:
            figures |= score(model)
        return figures

    def sample(model: nn.Module, step: int) -> list[dict]:
        prompt = params.sample_prompt
        text = complete(model, tokenizer, prompt, SAMPLE_TOKENS, SAMPLING, seed=seed)
        return [{"step": step, "prompt": prompt, "text": text}]

    trainer = Trainer(
        model,
        train_data,
        params,
        world=world,
        seed=seed,
        scratch=scratch,
        evaluate=evaluate,
        sample=sample,
        flops_per_token=flops_per_token(model.config, _size(model)),
    )
    if world.main and not trainer.compiled:
        reason = "train.compile is never" if params.compile == "never" else "there is no C++ compiler"
        print(f"training without torch.compile: {reason}")
    history = trainer.fit()
    return Pretrained(model, history, metrics(model, history, val_data.stream, params), throughput(trainer))


def metrics(model: GPT, history: History, val_stream: TokenStream, params: TrainParams) -> dict:
    """The metrics of a run that depend only on its inputs; losses and entropy in nats per token.

    The training loss of a run of no steps is null.
    """
    last = history.train[-max(1, len(history.train) // 20) :]  # the last twentieth
    return {
        "init": params.init,
        "initial_loss": history.val[0]["loss"],
        "train_loss": sum(row["loss"] for row in last) / len(last) if last else None,
        "val_loss": history.val[-1]["loss"],
        "unigram_entropy": unigram_entropy(val_stream, model.config.vocab_size),
        "loss_spikes": history.loss_spikes,
        "steps": history.step,
        "tokens": history.targets,
        "parameters": _size(model),
        **model.config.model_dump(include={"vocab_size", "block_size", "n_layer", "n_head", "n_embd"}),
    }


def unigram_entropy(stream: TokenStream, vocab_size: int) -> float:
    """Nats per token of the best predictor that ignores context: the entropy of the token frequencies of `stream`."""
    counts = np.zeros(vocab_size, dtype=np.int64)
    for start in range(0, len(stream), 1 << 20):
        tokens = stream.read(start, min(1 << 20, len(stream) - start))
        counts += np.bincount(tokens, minlength=vocab_size)
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def flops_per_token(config: GPTConfig, parameters: int) -> float:
    """Floating-point operations that training needs per token: 6 per parameter, and 12 * n_embd * block_size per layer
    for attention (Chowdhery et al. 2022, appendix B).

    The position embedding does not count, since it is only looked up. The token embedding is the output projection too.
    """
    matrices = parameters - config.block_size * config.n_embd
    return 6 * matrices + 12 * config.n_layer * config.n_embd * config.block_size


def throughput(trainer: Trainer) -> dict:
    """The speed of a finished run, over all processes; null if no step was timed or the device's peak is unknown."""
    history, world = trainer.history, trainer.world
    speed = history.timed_targets / history.seconds if history.seconds else None
    peak = peak_flops(world.device)
    return {
        "tokens_per_second": speed and round(speed, 1),
        "model_flops_utilization": speed and peak and round(speed * trainer.flops_per_token / (peak * world.size), 4),
        "peak_memory_mb": round(peak_memory(world.device) / 1e6),  # peak of the main process
        "seconds": round(history.seconds, 1),
        "device": device_name(world.device),
        "processes": world.size,
        "precision": "bfloat16" if trainer.dtype else "float32",
        "compiled": trainer.compiled,
    }


def _size(model: nn.Module) -> int:
    """The number of parameters."""
    return sum(parameter.numel() for parameter in model.parameters())
