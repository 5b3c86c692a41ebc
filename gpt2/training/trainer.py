"""The training loop that pretraining and both fine-tunings share."""

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
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
from gpt2.model.gpt import Dropout
from gpt2.runtime.device import attention_kernels, autocast_dtype, can_compile, move
from gpt2.runtime.world import World
from gpt2.training.batches import BatchOrder, Dataset, by_length
from gpt2.training.optim import learning_rate, make_optimizer
from gpt2.training.resume import Checkpoints
from gpt2.training.spikes import is_spike

WARMUP_SHARE = 0.1  # of a process's steps: left out of the measured speed, which compilation and caches would blur


@dataclass
class History:
    """What happened, step by step; part of every checkpoint, so that a resumed run tells the whole story."""

    step: int = 0  # optimizer steps done
    train: list[dict] = field(default_factory=list)  # step, targets seen, lr, loss, grad_norm
    val: list[dict] = field(default_factory=list)  # step, targets seen, and what `evaluate` returned
    samples: list[dict] = field(default_factory=list)  # what `sample` returned
    seconds: float = 0.0  # training time measured, without evaluation and the first steps
    timed_targets: int = 0  # targets seen in that time

    @property
    def best_step(self) -> int:
        """The step with the lowest validation loss, the first of equals."""
        return min(self.val, key=lambda row: row["loss"])["step"]


class Trainer:
    """Takes a model through `params.steps` optimizer steps, evaluating and keeping checkpoints on the way.

    `evaluate(model)` returns named figures, one of them `loss`; every process calls it. `sample(model, step)` returns
    rows to keep; only the main process calls it. The model's `forward(inputs, targets)` returns the summed loss.

    `keep_best`: the model ends with the weights that had the lowest validation loss, not with the last. `patience`:
    training ends when so many evaluations in a row bring no loss lower than the lowest before them; None: never early.
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
        evaluate: Callable[[nn.Module], dict[str, float]],
        sample: Callable[[nn.Module, int], list[dict]] | None = None,
        keep_best: bool = False,
        patience: int | None = None,
    ):
        micro_batches = params.batch_size // params.micro_batch_size
        if micro_batches % world.size:
            raise InputError(
                f"batch_size / micro_batch_size = {micro_batches} micro-batches cannot be shared evenly by "
                f"{world.size} processes"
            )
        self.model, self.data, self.params, self.world, self.seed = model.to(world.device), data, params, world, seed
        self.evaluate, self.sample = evaluate, sample
        self.keep_best, self.patience = keep_best, patience
        self.best: dict[str, Tensor] = {}  # with keep_best: the trained parameters as of best_step, on the CPU
        self.order = BatchOrder(len(data), params.batch_size, seed, data.lengths)
        self.optimizer = make_optimizer(model, params)
        self.checkpoints = Checkpoints(scratch)
        self.history = History()
        self.dtype = autocast_dtype(params.precision, world.device)
        self.compiled = can_compile(params.compile)
        self.wrapped = self.model  # compiled and wrapped for DDP when training begins

    def fit(self) -> History:
        """Trains to the last step or until patience ends, from the newest checkpoint where there is one.

        Raises InputError when the loss or gradient is no longer finite, naming the step and the last checkpoint.
        """
        self._resume()
        self.timed_from = self.history.step + WARMUP_SHARE * (self.params.steps - self.history.step)
        self._wrap()
        self.model.train()
        with self._progress() as progress, attention_kernels(self.world.device):
            self._evaluate_if_due()
            while self.history.step < self.params.steps and not self._out_of_patience():
                self._timed_step(progress)
                self._checkpoint_if_due()
                self._evaluate_if_due()
            if self.world.main and self.history.step < self.params.steps:
                why = f"no lower validation loss in {self.patience} evaluations"
                progress.write(f"training ends at step {self.history.step}: {why}", file=sys.stderr)
        if self.keep_best:
            self.model.load_state_dict(self.model.state_dict() | self.best)  # what is frozen has not changed
        return self.history

    def _resume(self) -> None:
        """Every process goes on from what the main one read: another may see an older file, or none."""
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

    def _wrap(self) -> None:
        if self.compiled:
            # DDP would have the graph cut at its buckets, and so rounded otherwise than in a single process.
            torch._dynamo.config.optimize_ddp = False
            if self.world.device.type == "cpu":
                # A tenth of what the backward pass would keep is computed once more instead: as fast, in less memory.
                torch._functorch.config.activation_memory_budget = 0.9
            self.wrapped = torch.compile(self.wrapped)
        if self.world.size > 1:
            # Unused parameters are looked for, though there are none, because DDP otherwise groups the gradients anew
            # after its first step: three processes or more would add them up in another order in a resumed run.
            self.wrapped = DistributedDataParallel(
                self.wrapped, gradient_as_bucket_view=True, find_unused_parameters=True
            )

    def _progress(self) -> tqdm:
        total, done = self.params.steps, self.history.step
        return bar(total=total, initial=done, desc="train", unit="step", disable=not self.world.main)

    def _evaluate_if_due(self) -> None:
        """Evaluates before the first step, after the last, and every `eval_every` steps between."""
        step, history = self.history.step, self.history
        due = step % self.params.eval_every == 0 or step == self.params.steps
        if not due or (history.val and history.val[-1]["step"] == step):
            return
        self.model.eval()
        with torch.no_grad(), self.autocast():  # not inference_mode: see autocast_dtype
            row = {"step": step, "targets": self._seen(), **self.evaluate(self.model)}
        if not math.isfinite(row["loss"]):
            raise InputError(f"the validation loss is {row['loss']} at step {step}: the weights are not finite numbers")
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

    def _seen(self) -> int:
        return self.history.train[-1]["targets"] if self.history.train else 0

    def autocast(self):
        """The context in which forward passes run."""
        if self.dtype is None:
            return nullcontext()
        return torch.autocast(self.world.device.type, self.dtype)

    def _timed_step(self, progress: tqdm) -> None:
        history = self.history
        started = time.perf_counter()
        row = self._step(history.step)
        seconds = time.perf_counter() - started
        targets = row["targets"] - self._seen()
        if history.step >= self.timed_from:
            history.seconds += seconds
            history.timed_targets += targets
        history.train.append(row)
        history.step += 1
        if self.world.main and is_spike(history.train):
            progress.write(f"loss spike at step {row['step']}: {row['loss']:.3f}", file=sys.stderr)
        progress.set_postfix(loss=f"{row['loss']:.3f}", speed=f"{targets / seconds:,.0f}/s", refresh=False)
        progress.update()

    def _step(self, step: int) -> dict:
        """One optimizer step: forward and backward over this process's micro-batches, clip, update."""
        lr = learning_rate(step, self.params)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        ids = self.order.ids(step)
        targets = self.data.targets(ids)
        share = self._accumulate(step, ids, targets)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.params.grad_clip, foreach=True)
        # Until here nothing waits for the device: the host reads a micro-batch while the one before is computed.
        *shares, grad_norm = torch.cat([self.world.gather(share), norm.double().view(1)]).tolist()
        loss = sum(shares)
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            raise InputError(self._diverged(step, lr, shares, grad_norm))
        self.optimizer.step()
        self.optimizer.zero_grad()
        return {"step": step, "targets": self._seen() + targets, "lr": lr, "loss": loss, "grad_norm": grad_norm}

    def _accumulate(self, step: int, ids: np.ndarray, targets: int) -> Tensor:
        """Adds up the gradient of the mean loss over the global batch; returns this process's share of that loss.

        DDP averages over processes what is a sum here, so each process scales its loss by their number; it talks to
        the others in the last micro-batch only.
        """
        loss = torch.zeros((), device=self.world.device)
        for micro_batch, inputs, outputs, last in self._micro_batches(ids):
            samples = range(micro_batch * len(inputs), (micro_batch + 1) * len(inputs))  # places in the global batch
            postponed = self.world.size > 1 and not last
            with self.wrapped.no_sync() if postponed else nullcontext():
                with self.autocast(), seeded_dropout(self.model, self.seed, step, samples):
                    share = self.wrapped(inputs, outputs) / targets
                (share * self.world.size).backward()
            loss += share.detach()
        return loss

    def _micro_batches(self, ids: np.ndarray) -> Iterator[tuple[int, Tensor, Tensor, bool]]:
        """This process's micro-batches: number within the global batch, inputs, targets, whether it is the last."""
        size, world = self.params.micro_batch_size, self.world
        numbers = range(world.rank, len(ids) // size, world.size)
        for number in numbers:
            inputs, targets = self.data.batch(ids[number * size : (number + 1) * size])
            yield number, move(inputs, world.device), move(targets, world.device), number == numbers[-1]

    def _diverged(self, step: int, lr: float, shares: list[float], grad_norm: float) -> str:
        ranks = [str(rank) for rank, share in enumerate(shares) if not math.isfinite(share)]
        where = f" (not finite on rank {', '.join(ranks)} of {len(shares)})" if ranks and len(shares) > 1 else ""
        return (
            f"training diverged at step {step}: loss {sum(shares)}{where}, gradient norm {grad_norm}, learning rate "
            f"{lr:g}; lower lr or lengthen warmup_steps (last good checkpoint: {self.checkpoints.newest()})"
        )


def trainable_parameters(model: nn.Module) -> dict[str, float]:
    """How many of a model's parameters train, and what share of them all, adapters included, that is."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    trainable = sum(size for size, trains in sizes if trains)
    return {"trainable_parameters": trainable, "trainable_share": trainable / sum(size for size, _ in sizes)}


def mean_loss(model: nn.Module, data: Dataset, batch_size: int, world: World) -> float:
    """Loss in nats a target over the whole of `data`, shared among the processes; added up in float64."""
    order = np.arange(len(data))
    if data.lengths is not None:
        order = by_length(order, data.lengths)
    total, targets = torch.zeros((), dtype=torch.float64, device=world.device), 0
    for first in range(world.rank * batch_size, len(data), world.size * batch_size):
        ids = order[first : first + batch_size]
        inputs, outputs = data.batch(ids)
        total += model(move(inputs, world.device), move(outputs, world.device))
        targets += data.targets(ids)
    total, targets = world.sum([total.item(), float(targets)])
    return total / targets


@contextmanager
def seeded_dropout(model: nn.Module, seed: int, step: int, samples: range) -> Iterator[None]:
    """Within it, a dropout mask of `model` depends on seed, step, the sample's number, layer and place alone.

    `samples`: the numbers, within the global batch of `step`, of the samples that `forward` is about to see.
    """
    layers = [module for module in model.modules() if isinstance(module, Dropout) and module.p > 0.0]
    if layers:
        generator = np.random.default_rng([seed, step, 1])  # 1: not the numbers that order the samples
        words = generator.integers(2**32, size=(samples.stop, len(layers), 2))[samples.start :]
        seeds = move(torch.from_numpy(words), next(model.parameters()).device)
        for layer, own in zip(layers, seeds.unbind(1), strict=True):
            layer.seeds = own
    try:
        yield
    finally:
        for layer in layers:
            layer.seeds = None
