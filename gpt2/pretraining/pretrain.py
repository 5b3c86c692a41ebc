"""Pretraining: next-token prediction on a token stream."""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from gpt2.common.errors import InputError
from gpt2.config.params import GPTConfig, MachineParams, TrainParams
from gpt2.generation.generate import complete
from gpt2.model.checkpoint import load_with_tokenizer, save_with_tokenizer
from gpt2.model.gpt import GPT
from gpt2.model.snapshots import Snapshot, snapshot_directory
from gpt2.pretraining.sampling import GENERATION, SAMPLING
from gpt2.runtime.device import peak_flops, peak_memory
from gpt2.runtime.world import World
from gpt2.tokenizer.tokenizer import Tokenizer
from gpt2.tokens.shards import TokenStream
from gpt2.training.card import Card, Metric, shape
from gpt2.training.history import History
from gpt2.training.loss import mean_loss
from gpt2.training.memory import training_memory
from gpt2.training.trainer import Trainer

SNAPSHOTS = "snapshots"  # folder of unfinished work
CODE = """\
from transformers import pipeline

generator = pipeline("text-generation", model=".")  # the folder of this file
print(generator("Returns the")[0]["generated_text"])"""
SHOWN_TOKENS = 32  # length of the texts that training prints


@dataclass
class Pretrained:
    """A finished run."""

    model: GPT
    history: History
    snapshots: list[Snapshot]  # in `scratch`, by step
    metrics: dict  # depends only on the inputs
    throughput: dict  # also depends on the machine


class TokenWindows:
    """A token stream as samples of `block_size` tokens that do not overlap; the last partial window is dropped."""

    lengths = None  # all windows have the same length

    def __init__(self, stream: TokenStream, block_size: int, max_tokens: int | None = None):
        """Uses at most `max_tokens` of the stream, but at least one window.

        Raises InputError if no window and its last target fit into the stream.
        """
        tokens = min(len(stream), max(max_tokens or len(stream), block_size + 1))
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

    def frequencies(self, vocab_size: int) -> np.ndarray:
        """How often each token is a target: (vocab_size,) int64."""
        counts, end = np.zeros(vocab_size, dtype=np.int64), self.n_windows * self.block_size + 1
        for start in range(1, end, 1 << 20):
            counts += np.bincount(self.stream.read(start, min(1 << 20, end - start)), minlength=vocab_size)
        return counts


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
    machine: MachineParams,
    seed: int,
    scratch: Path,
    code: dict[str, str],
    world: World,
    log: Callable[[str, dict], None],
    start: Callable[[dict], dict | None] | None = None,
) -> Pretrained:
    """Trains `model` to predict the next token. Raises InputError if training diverges.

    Snapshots are written to `scratch / SNAPSHOTS`. Trainer explains `code`, `log` and `start`.
    """
    frequencies = val_data.frequencies(tokenizer.vocab_size)
    bits, kept = bits_per_byte(frequencies, tokenizer), snapshot_steps(params)

    def evaluate(model: nn.Module, batch_size: int) -> dict[str, float]:
        loss = mean_loss(model, val_data, batch_size, world)
        return {"loss": loss, "bits_per_byte": loss * bits}

    def show(model: nn.Module, step: int) -> None:
        text = complete(model, tokenizer, "", SHOWN_TOKENS, SAMPLING, seed=seed)
        print(f"step {step} writes: {text!r}", file=sys.stderr)

    trainer = Trainer(
        model,
        train_data,
        params,
        machine=machine,
        world=world,
        seed=seed,
        scratch=scratch,
        code=code,
        evaluate=evaluate,
        log=log,
        show=show,
        snapshot=partial(_keep_snapshot, tokenizer, scratch),
        snapshots=kept,
        start=start,
        compile=True,
        flops_per_token=flops_per_token(model.config, _size(model)),
        estimate=partial(_memory, model.config, params.optimizer, world.size),
    )
    if world.main:
        _announce(trainer, params, machine)
    history = trainer.fit()
    batch_tokens = params.batch_size * model.config.block_size
    snapshots = [Snapshot(n, n * batch_tokens, snapshot_directory(scratch / SNAPSHOTS, n)) for n in kept]
    figures = metrics(model, history, frequencies, bits, params)
    return Pretrained(model, history, snapshots, figures, throughput(trainer))


def _memory(config: GPTConfig, optimizer: str, processes: int, micro_batch_size: int, resolved: dict) -> int:
    """The bytes that a training step needs, whose settings were `resolved` as in Trainer."""
    how = {name: resolved[name] for name in ("precision", "recompute", "compiled")}
    return training_memory(config, micro_batch_size, optimizer=optimizer, processes=processes, **how).total


def snapshot_steps(params: TrainParams) -> list[int]:
    """The steps whose models are kept, in order and up to the last step."""
    if isinstance(params.snapshots, int):
        return list(range(params.snapshots, params.steps + 1, params.snapshots))
    return sorted({step for step in params.snapshots or () if step <= params.steps})


def _keep_snapshot(tokenizer: Tokenizer, scratch: Path, model: GPT, step: int) -> None:
    """Writes the model and its tokenizer."""
    save_with_tokenizer(model, tokenizer, snapshot_directory(scratch / SNAPSHOTS, step), GENERATION)


def _announce(trainer: Trainer, params: TrainParams, machine: MachineParams) -> None:
    """Says what a user may not expect before a long run."""
    if not trainer.resolved["compiled"]:
        missing = "no C++ compiler or no Python.h" if sys.platform == "linux" else "auto compiles only on Linux"
        reason = "machine.compile is never" if machine.compile == "never" else missing
        print(f"training without torch.compile: {reason}", file=sys.stderr)
    if steps := snapshot_steps(params):
        megabytes = 4 * _size(trainer.model) / 1e6
        print(f"snapshots: {len(steps)} of {megabytes:,.1f} MB, {len(steps) * megabytes:,.0f} MB", file=sys.stderr)


def metrics(model: GPT, history: History, frequencies: np.ndarray, bits: float, params: TrainParams) -> dict:
    """The metrics of a run that depend only on its inputs; losses and entropy in nats per token.

    `frequencies` (V,) counts the targets of the validation windows, and `bits` is what `bits_per_byte` returns for
    them. The training loss of a run of no steps is null.
    """
    last = history.train[-max(1, len(history.train) // 20) :]  # the last twentieth
    initial, final = history.val[0]["loss"], history.val[-1]["loss"]
    return {
        "init": params.init,
        "initial_loss": initial,
        "train_loss": math.fsum(row["loss"] for row in last) / len(last) if last else None,
        "val_loss": final,
        "initial_bits_per_byte": initial * bits,
        "val_bits_per_byte": final * bits,
        "unigram_entropy": unigram_entropy(frequencies),
        "loss_spikes": history.loss_spikes,
        "skipped_steps": history.skipped_steps,
        "steps": history.step,
        "tokens": history.targets,
        "parameters": _size(model),
        **model.config.model_dump(include={"vocab_size", "block_size", "n_layer", "n_head", "n_embd"}),
    }


def card(model: GPT, metrics: dict, made_from: list[dict]) -> Card:
    """The model card of a run with these metrics."""
    origin = "random weights" if metrics["init"] == "scratch" else "the weights in the table below"
    learned = f"it learned to predict the next token: {metrics['steps']:,} steps, {metrics['tokens']:,} tokens"
    trained = learned if metrics["steps"] else "it was not trained"
    return Card(
        title="GPT-2, pretrained",
        about=f"{shape(model, model.config)} Starting from {origin}, {trained}.",
        task="text-generation",
        code=CODE,
        advice="`generation_config.json` has the default settings. A prompt and its continuation must fit the context.",
        made_from=made_from,
        metrics=[
            Metric("loss", "validation loss, nats per token", metrics["val_loss"]),
            Metric("perplexity", "perplexity per token", math.exp(metrics["val_loss"])),
            Metric("bits_per_byte", "bits per byte of text", metrics["val_bits_per_byte"]),
        ],
    )


def bits_per_byte(frequencies: np.ndarray, tokenizer: Tokenizer) -> float:
    """The bits per byte of text that one nat per token amounts to, for tokens with these `frequencies` (V,).

    All tokens count, <|endoftext|> too, but it has no bytes. Losses of different vocabularies compare in this unit.
    """
    return float(frequencies.sum() / (frequencies @ tokenizer.byte_lengths) / math.log(2))


def unigram_entropy(frequencies: np.ndarray) -> float:
    """Nats per token of the best predictor that ignores context, for tokens with these `frequencies` (V,)."""
    shares = frequencies[frequencies > 0] / frequencies.sum()
    return float(-(shares * np.log(shares)).sum())


def flops_per_token(config: GPTConfig, parameters: int) -> float:
    """Floating-point operations that training needs per token: 6 per parameter, and 12 * n_embd * block_size per layer
    for attention (Chowdhery et al. 2022, appendix B).

    The position embedding does not count, since it is only looked up. The token embedding is the output projection too.
    """
    matrices = parameters - config.block_size * config.n_embd
    return 6 * matrices + 12 * config.n_layer * config.n_embd * config.block_size


def throughput(trainer: Trainer) -> dict:
    """The speed of a finished run, over all processes; null where no step was timed, or a peak is unknown."""
    history, world = trainer.history, trainer.world
    speed = history.timed_targets / history.seconds if history.seconds else None
    peak, memory = peak_flops(world.device), peak_memory(world.device)
    return {
        "tokens_per_second": speed and round(speed, 1),
        "model_flops_utilization": speed and peak and round(speed * trainer.flops_per_token / (peak * world.size), 4),
        "peak_memory_mb": memory and round(memory / 1e6),  # peak of the main process
        "seconds": round(history.seconds, 1),
        **trainer.conditions,
        "code_changed_at_step": history.code_changed_at_step,
        "conditions_changed_at_step": history.conditions_changed_at_step,
    }


def _size(model: nn.Module) -> int:
    """The number of parameters."""
    return sum(parameter.numel() for parameter in model.parameters())
