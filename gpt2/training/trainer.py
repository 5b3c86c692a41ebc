"""The training loop that pretraining and both kinds of fine-tuning share."""

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from gpt2.common.errors import InputError
from gpt2.common.progress import bar
from gpt2.config.params import OptimParams
from gpt2.runtime.device import autocast_dtype, can_compile, move, peak_flops
from gpt2.runtime.world import World
from gpt2.training.batches import BatchOrder, Dataset, by_length
from gpt2.training.optim import learning_rate, make_optimizer
from gpt2.training.resume import Checkpoints

WARMUP_SHARE = 0.1  # share of a process's steps, at its start, that is not timed: code compiles and caches fill
SPIKE_WINDOW = 50  # previous steps with which a step's loss is compared
SPIKE_DEVIATIONS = 5  # a loss is a spike if it exceeds their mean by this many standard deviations


@dataclass
class History:
    """The record of a run. It is part of each checkpoint, so that a resumed run reports all of its steps."""

    step: int = 0  # optimizer steps done
    train: list[dict] = field(default_factory=list)  # step, targets seen, lr, loss, grad_norm
    val: list[dict] = field(default_factory=list)  # step, targets seen, and what `evaluate` returned
    samples: list[dict] = field(default_factory=list)  # what `sample` returned
    seconds: float = 0.0  # time of the timed training steps, without evaluation
    timed_targets: int = 0  # targets seen in those steps
    loss_spikes: int = 0  # steps that `is_spike` counts as spikes

    @property
    def targets(self) -> int:
        """Targets seen so far."""
        return self.train[-1]["targets"] if self.train else 0

    @property
    def best_step(self) -> int:
        """The step with the lowest validation loss; the earliest on ties."""
        return min(self.val, key=lambda row: row["loss"])["step"]

    def add(self, figures: dict[str, float], n_targets: int, seconds: float | None) -> None:
        """Records a training step with `n_targets` targets; `seconds` is None if the step is not timed."""
        self.train.append({"step": self.step, "targets": self.targets + n_targets, **figures})
        self.step += 1
        self.loss_spikes += is_spike(self.train)
        if seconds is not None:
            self.seconds += seconds
            self.timed_targets += n_targets


class Trainer:
    """Trains a model for `params.steps` optimizer steps, with evaluations and checkpoints.

    The model's `forward(inputs, targets)` returns the summed loss. `evaluate(model, step)` returns metrics,
    among them `loss`; every process calls it. `sample(model, step)` returns rows for `History.samples`; only the main
    process calls it.

    `keep_best`: the model ends with the weights of the lowest validation loss instead of the last ones. `patience`:
    training stops after this many consecutive evaluations without improvement; None disables early stopping.
    `flops_per_token`: floating-point operations that training needs per token, from which utilization is computed.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Dataset,
        params: OptimParams,
        *,
        world: World,
        seed: int,
        scratch: Path,
        evaluate: Callable[[nn.Module, int], dict[str, float]],
        sample: Callable[[nn.Module, int], list[dict]] | None = None,
        keep_best: bool = False,
        patience: int | None = None,
        flops_per_token: float | None = None,
    ):
        micro_batches = params.batch_size // params.micro_batch_size
        if micro_batches % world.size:
            raise InputError(
                f"batch_size / micro_batch_size = {micro_batches} micro-batches cannot be shared evenly by "
                f"{world.size} processes"
            )
        self.model, self.data, self.params, self.world, self.seed = model.to(world.device), data, params, world, seed
        self.evaluate, self.sample = evaluate, sample
        self.keep_best, self.patience, self.flops_per_token = keep_best, patience, flops_per_token
        self.best: dict[str, Tensor] = {}  # with keep_best: the trainable parameters at best_step, on the CPU
        self.micro_batches = range(world.rank, micro_batches, world.size)  # this process's share of each step's
        self.order = BatchOrder(len(data), params.batch_size, seed, data.lengths)
        self.optimizer = make_optimizer(model, params)
        self.checkpoints = Checkpoints(scratch)
        self.history = History()
        self.dtype = autocast_dtype(params.precision, world.device)
        self.compiled = can_compile(params.compile)
        self.has_dropout = any(isinstance(module, nn.Dropout) and module.p > 0 for module in model.modules())

    def fit(self) -> History:
        """Trains from the newest checkpoint, or from the start, to the last step or until patience runs out.

        Raises InputError when the loss or gradient is no longer finite, naming the step and the last good checkpoint.
        """
        self._resume()
        params, world, history = self.params, self.world, self.history
        timed_from = history.step + WARMUP_SHARE * (params.steps - history.step)
        forward, batches = self._compiled_and_parallel(), self._batches(history.step)
        self.model.train()
        with bar(total=params.steps, initial=history.step, desc="train", unit="step", disable=not world.main) as pbar:
            self._evaluate_if_due()
            batch = next(batches, None)
            while history.step < params.steps and not self._out_of_patience():
                started, step, tokens = time.perf_counter(), history.step, 0
                lr = learning_rate(step, params)
                for group in self.optimizer.param_groups:
                    group["lr"] = lr
                loss = torch.zeros((), device=world.device)  # this process's share of the mean over the global batch
                for micro_batch in self.micro_batches:  # gradients accumulate: each backward adds to them
                    inputs, targets, n_targets = batch
                    if self.has_dropout:
                        seed_dropout(self.seed, step, micro_batch)
                    last = micro_batch == self.micro_batches[-1]  # only then do processes add up their gradients
                    with nullcontext() if last or world.size == 1 else forward.no_sync():
                        with self.autocast():
                            share = forward(inputs, targets) / n_targets
                        (share * world.size).backward()  # DDP divides the sum by the number of processes
                    loss += share.detach()
                    tokens += inputs.numel() * world.size
                    batch = next(batches, None)  # read while the device computes
                norm = nn.utils.clip_grad_norm_(self.model.parameters(), params.grad_clip, foreach=True)
                self.optimizer.step()
                self.optimizer.zero_grad()
                # Up to here nothing waits for the device. Nothing uses the new weights before this check.
                *shares, grad_norm = torch.cat([world.gather(loss), norm.double().view(1)]).tolist()
                if not (math.isfinite(sum(shares)) and math.isfinite(grad_norm)):
                    raise InputError(self._diverged(step, lr, shares, grad_norm))
                seconds = time.perf_counter() - started
                figures = {"lr": lr, "loss": sum(shares), "grad_norm": grad_norm}
                history.add(figures, n_targets, seconds if step >= timed_from else None)
                self._log(pbar, seconds, tokens)
                self._checkpoint_if_due()
                self._evaluate_if_due()
            if world.main and history.step < params.steps:
                reason = f"no lower validation loss in {self.patience} evaluations"
                pbar.write(f"training ends at step {history.step}: {reason}", file=sys.stderr)
        if self.keep_best:
            self.model.load_state_dict(self.model.state_dict() | self.best)  # frozen parameters have not changed
        return history

    def autocast(self):
        """The context in which forward passes run."""
        return nullcontext() if self.dtype is None else torch.autocast(self.world.device.type, self.dtype)

    def _batches(self, first_step: int) -> Iterator[tuple[Tensor, Tensor, int]]:
        """This process's micro-batches from a step on: inputs, targets, and scored targets of the whole step."""
        size = self.params.micro_batch_size
        for step in range(first_step, self.params.steps):
            ids = self.order.ids(step)
            n_targets = self.data.targets(ids)
            for micro_batch in self.micro_batches:
                inputs, targets = self.data.batch(ids[micro_batch * size : (micro_batch + 1) * size])
                yield move(inputs, self.world.device), move(targets, self.world.device), n_targets

    def _compiled_and_parallel(self) -> nn.Module:
        """The model as the training step calls it: compiled and wrapped in DDP, if required."""
        wrapped, on_cpu = self.model, self.world.device.type == "cpu"
        if self.compiled:
            if on_cpu:
                # DDP would cut the graph at its buckets, and rounding would differ from that of a single process.
                torch._dynamo.config.optimize_ddp = False
            wrapped = torch.compile(wrapped)
        if self.world.size > 1:
            # All parameters are used. But without the search for unused ones DDP regroups the gradients after its first
            # step, and three or more processes would add them up in another order in a resumed run.
            wrapped = DistributedDataParallel(wrapped, gradient_as_bucket_view=True, find_unused_parameters=on_cpu)
        return wrapped

    def _log(self, pbar: tqdm, seconds: float, tokens: int) -> None:
        """Logs the last step: `seconds` long, with `tokens` tokens (padding included) over all processes."""
        row, speed = self.history.train[-1], tokens / seconds
        figures = {
            "loss": f"{row['loss']:.3f}",
            "lr": f"{row['lr']:.2e}",
            "norm": f"{row['grad_norm']:.2f}",
            "ms": f"{1000 * seconds:.0f}",
            "tok/s": f"{speed:,.0f}",
        }
        peak = peak_flops(self.world.device)
        if peak and self.flops_per_token:
            figures["MFU"] = f"{speed * self.flops_per_token / (peak * self.world.size):.1%}"
        pbar.set_postfix(figures, refresh=False)
        pbar.update()
        if self.world.main and is_spike(self.history.train):
            pbar.write(f"loss spike at step {row['step']}: {row['loss']:.3f}", file=sys.stderr)

    def _resume(self) -> None:
        """Loads the main process's newest checkpoint in every process: other machines may see an older file or none."""
        state = self.world.from_main(self.checkpoints.load() if self.world.main else None)
        if state is None:
            return
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.best = {name: weight.cpu() for name, weight in state["best"].items()}
            self.history = History(**state["history"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"{self.checkpoints.newest()}: not a checkpoint of this run; delete it: {error}") from None

    def _checkpoint_if_due(self) -> None:
        done = self.history.step
        if self.world.main and done % self.params.checkpoint_every == 0 and done < self.params.steps:
            model, optimizer = self.model.state_dict(), self.optimizer.state_dict()
            state = {"model": model, "optimizer": optimizer, "best": self.best, "history": asdict(self.history)}
            self.checkpoints.save(done, state)

    def _evaluate_if_due(self) -> None:
        """Evaluates before the first step, after the last, and every `eval_every` steps between."""
        step, history = self.history.step, self.history
        due = step % self.params.eval_every == 0 or step == self.params.steps
        if not due or (history.val and history.val[-1]["step"] == step):
            return
        self.model.eval()
        with torch.no_grad(), self.autocast():  # not inference_mode: see autocast_dtype
            row = {"step": step, "targets": history.targets, **self.evaluate(self.model, step)}
        if not math.isfinite(row["loss"]):
            raise InputError(f"the validation loss at step {step} is not finite: {row['loss']}")
        history.val.append(row)
        if self.keep_best and history.best_step == step:
            trained = ((name, weight) for name, weight in self.model.named_parameters() if weight.requires_grad)
            self.best = {name: weight.detach().to("cpu", copy=True) for name, weight in trained}
        if self.sample and self.world.main:
            history.samples += self.sample(self.model, step)
        self.model.train()

    def _out_of_patience(self) -> bool:
        since = [row for row in self.history.val if row["step"] > self.history.best_step]
        return self.patience is not None and len(since) >= self.patience

    def _diverged(self, step: int, lr: float, shares: list[float], grad_norm: float) -> str:
        ranks = [str(rank) for rank, share in enumerate(shares) if not math.isfinite(share)]
        where = f" (not finite on rank {', '.join(ranks)} of {len(shares)})" if ranks and len(shares) > 1 else ""
        return (
            f"training diverged at step {step}: loss {sum(shares)}{where}, gradient norm {grad_norm}, learning rate "
            f"{lr:g}; lower lr or lengthen warmup_steps (last good checkpoint: {self.checkpoints.newest()})"
        )


def seed_dropout(seed: int, step: int, micro_batch: int) -> None:
    """Seeds torch's generators, so that the dropout masks of a micro-batch depend only on these three numbers."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step, micro_batch]).generate_state(1, np.uint64)[0]))


def is_spike(rows: list[dict]) -> bool:
    """Whether the last row's `loss` is more than SPIKE_DEVIATIONS standard deviations above the mean of the
    SPIKE_WINDOW before it. The first SPIKE_WINDOW steps are never spikes: too few losses come before them."""
    if len(rows) <= SPIKE_WINDOW:
        return False
    before = np.array([row["loss"] for row in rows[-SPIKE_WINDOW - 1 : -1]])
    return bool(rows[-1]["loss"] > before.mean() + SPIKE_DEVIATIONS * before.std())


def trainable_parameters(model: nn.Module) -> dict[str, float]:
    """The number of trainable parameters, and their share of all parameters, adapters included."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    trainable = sum(size for size, trains in sizes if trains)
    return {"trainable_parameters": trainable, "trainable_share": trainable / sum(size for size, _ in sizes)}


def mean_loss(model: nn.Module, data: Dataset, batch_size: int, world: World) -> float:
    """Mean loss in nats per target over `data`, summed in float64; the processes share the work."""
    order = np.arange(len(data))
    if data.lengths is not None:
        order = by_length(order, data.lengths)
    total, n_targets = torch.zeros((), dtype=torch.float64, device=world.device), 0
    for first in range(world.rank * batch_size, len(data), world.size * batch_size):
        ids = order[first : first + batch_size]
        inputs, targets = data.batch(ids)
        total += model(move(inputs, world.device), move(targets, world.device))
        n_targets += data.targets(ids)
    total, n_targets = world.sum([total.item(), float(n_targets)])
    return total / n_targets
