"""The training loop that pretraining and both kinds of fine-tuning share."""

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from gpt2.common.errors import InputError
from gpt2.common.progress import bar
from gpt2.config.params import MachineParams, OptimParams
from gpt2.runtime.device import autocast_dtype, can_compile, device_name, move, peak_flops
from gpt2.runtime.world import World
from gpt2.training.batches import BatchOrder, Dataset
from gpt2.training.history import History, is_spike
from gpt2.training.optim import constant_steps, learning_rate, make_optimizer
from gpt2.training.resume import Checkpoints

WARMUP_SHARE = 0.1  # share of a process's steps, at its start, that is not timed: code compiles and caches fill


class MicroBatch(NamedTuple):
    """One process's share of a global batch that goes through the model together."""

    inputs: Tensor
    targets: Tensor
    n_targets: int  # scored targets of the global batch
    counts: bool  # False for a sample that only fills in where a batch has fewer samples than there are processes


class Trainer:
    """Trains a model for `params.steps` optimizer steps, with evaluations and checkpoints.

    The model's `forward(inputs, targets)` returns the summed loss. `evaluate(model, batch_size)` returns metrics, among
    them `loss`; every process calls it. Only the main process calls the next three. `log(split, row)` gets each row of
    the history. `show(model, step)` runs after an evaluation. `snapshot(model, step)` runs before the first step and
    after each step.

    `machine` says how the work is done. What it resolves to is part of each checkpoint and stays when a run resumes,
    except that a smaller `micro_batch_size` takes effect. `code`: the hash of each file of the code that decides the
    result. If the checkpoint has others, the run continues, and the history names the step. A run without a checkpoint
    begins from the state that `start(conditions)` returns, if any. `compile`: whether compiling may pay, since batches
    have the same shape.

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
        machine: MachineParams,
        world: World,
        seed: int,
        scratch: Path,
        code: dict[str, str],
        evaluate: Callable[[nn.Module, int], dict[str, float]],
        log: Callable[[str, dict], None],
        show: Callable[[nn.Module, int], None] | None = None,
        snapshot: Callable[[nn.Module, int], None] | None = None,
        start: Callable[[dict], dict | None] | None = None,
        compile: bool = False,
        keep_best: bool = False,
        patience: int | None = None,
        flops_per_token: float | None = None,
    ):
        self.model, self.data, self.params, self.world, self.seed = model.to(world.device), data, params, world, seed
        self.evaluate, self.log, self.show, self.snapshot, self.start = evaluate, log, show, snapshot, start
        self.keep_best, self.patience, self.flops_per_token = keep_best, patience, flops_per_token
        self.best: dict[str, Tensor] = {}  # with keep_best: the trainable parameters at best_step, on the CPU
        self.order = BatchOrder(len(data), params.batch_size, seed, data.lengths)
        self.optimizer = make_optimizer(model, params)
        self.checkpoints, self.checkpoint_every, self.code = Checkpoints(scratch), machine.checkpoint_every, code
        self.constant_steps = constant_steps(params)
        self.history = History()
        self.peak_flops = peak_flops(world.device)
        self.resolved = {
            "micro_batch_size": machine.micro_batch_size,
            "precision": "bfloat16" if autocast_dtype(params.precision, world.device) else "float32",
            "compiled": compile and can_compile(machine.compile),
        }
        self.has_dropout = any(isinstance(module, nn.Dropout) and module.p > 0 for module in model.modules())

    @property
    def conditions(self) -> dict:
        """What affects rounding: where the work is done, and how."""
        device, processes = device_name(self.world.device), self.world.size
        return {"device": device, "processes": processes, "threads": torch.get_num_threads(), **self.resolved}

    def fit(self) -> History:
        """Trains from the newest checkpoint, or from the start, to the last step or until patience runs out.

        Raises InputError when the loss or gradient is no longer finite, naming the step and the last good checkpoint.
        """
        self._resume()
        params, world, history = self.params, self.world, self.history
        n_micro_batches = micro_batches(params.batch_size, world.size, self.resolved["micro_batch_size"])
        mine = range(world.rank, n_micro_batches, world.size)
        timed_from = history.step + WARMUP_SHARE * (params.steps - history.step)
        forward, batches = self._compiled_and_parallel(), self._batches(history.step, n_micro_batches)
        self.model.train()
        with bar(total=params.steps, initial=history.step, desc="train", unit="step", disable=not world.main) as pbar:
            self._snapshot_and_evaluate()
            batch = next(batches, None)
            while history.step < params.steps and not self._out_of_patience():
                started, step, tokens = time.perf_counter(), history.step, 0
                lr = learning_rate(step, params)
                for group in self.optimizer.param_groups:
                    group["lr"] = lr
                loss = torch.zeros((), device=world.device)  # this process's share of the mean over the global batch
                for number in mine:  # gradients accumulate: each backward adds to them
                    inputs, targets, n_targets, counts = batch
                    if self.has_dropout:
                        seed_dropout(self.seed, step, number)
                    last = number == mine[-1]  # only then do processes add up their gradients
                    with nullcontext() if last or world.size == 1 else forward.no_sync():
                        with self.autocast():
                            share = forward(inputs, targets) / n_targets * counts
                        (share * world.size).backward()  # DDP divides the sum by the number of processes
                    loss += share.detach()
                    tokens += inputs.numel() * world.size
                    batch = next(batches, None)  # read while the device computes
                norm = nn.utils.clip_grad_norm_(self.model.parameters(), params.grad_clip)
                self.optimizer.step()
                self.optimizer.zero_grad()
                # The host waits for the device here. Nothing uses the new weights before this check.
                *shares, grad_norm = torch.cat([world.gather(loss), norm.view(1)]).tolist()
                if not (math.isfinite(sum(shares)) and math.isfinite(grad_norm)):
                    raise InputError(self._diverged(step, lr, shares, grad_norm))
                seconds = time.perf_counter() - started
                figures = {"lr": lr, "loss": sum(shares), "grad_norm": grad_norm}
                history.add(figures, n_targets, seconds if step >= timed_from else None)
                self._report(pbar, seconds, tokens)
                self._checkpoint_if_due()
                self._snapshot_and_evaluate()
            if world.main and history.step < params.steps:
                reason = f"no lower validation loss in {self.patience} evaluations"
                pbar.write(f"training ends at step {history.step}: {reason}", file=sys.stderr)
        if world.main:  # what follows may fail, and then the next run starts from here
            self.checkpoints.save(history.step, self._state())
        if self.keep_best:
            self.model.load_state_dict(self.model.state_dict() | self.best)  # frozen parameters have not changed
        return history

    def autocast(self):
        """The context in which forward passes run."""
        enabled = self.resolved["precision"] == "bfloat16"
        return torch.autocast(self.world.device.type, torch.bfloat16) if enabled else nullcontext()

    def _batches(self, first_step: int, n_micro_batches: int) -> Iterator[MicroBatch]:
        """This process's micro-batches from a step on."""
        device = self.world.device
        for step in range(first_step, self.params.steps):
            ids = self.order.ids(step)
            n_targets = self.data.targets(ids)
            for part in np.array_split(ids, n_micro_batches)[self.world.rank :: self.world.size]:
                inputs, targets = self.data.batch(part if len(part) else ids[:1])
                yield MicroBatch(move(inputs, device), move(targets, device), n_targets, len(part) > 0)

    def _compiled_and_parallel(self) -> nn.Module:
        """The model as the training step calls it: compiled and wrapped in DDP, if required."""
        wrapped, on_cpu = self.model, self.world.device.type == "cpu"
        if self.resolved["compiled"]:
            if on_cpu:
                # DDP would cut the graph at its buckets, and rounding would differ from that of a single process.
                torch._dynamo.config.optimize_ddp = False
            wrapped = torch.compile(wrapped)
        if self.world.size > 1:
            # All parameters are used. But without the search for unused ones DDP regroups the gradients after its first
            # step, and three or more processes would add them up in another order in a resumed run.
            wrapped = DistributedDataParallel(wrapped, gradient_as_bucket_view=True, find_unused_parameters=on_cpu)
        return wrapped

    def _report(self, pbar: tqdm, seconds: float, tokens: int) -> None:
        """Reports the last step: `seconds` long, with `tokens` tokens (padding included) over all processes."""
        row, speed = self.history.train[-1], tokens / seconds
        if self.world.main:
            self.log("train", row)
        figures = {
            "loss": f"{row['loss']:.3f}",
            "lr": f"{row['lr']:.2e}",
            "norm": f"{row['grad_norm']:.2f}",
            "ms": f"{1000 * seconds:.0f}",
            "tok/s": f"{speed:,.0f}",
        }
        if self.peak_flops and self.flops_per_token:
            figures["MFU"] = f"{speed * self.flops_per_token / (self.peak_flops * self.world.size):.1%}"
        pbar.set_postfix(figures, refresh=False)
        pbar.update()
        if self.world.main and is_spike(self.history.train):
            pbar.write(f"loss spike at step {row['step']}: {row['loss']:.3f}", file=sys.stderr)

    def _resume(self) -> None:
        """Loads the main process's newest checkpoint in every process: other machines may see an older file or none."""
        state = None
        if self.world.main:
            state = self.checkpoints.load() or (self.start and self.start(self.conditions))
        state = self.world.from_main(state)
        if state is None:
            return
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.best = {name: weight.cpu() for name, weight in state["best"].items()}
            self.history = History(**state["history"])
            self._continue(state["conditions"], state["code"])
        except torch.OutOfMemoryError:
            raise
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"{self.checkpoints.newest()}: not a checkpoint of this run; delete it: {error}") from None
        if self.world.main:
            for split, rows in (("train", self.history.train), ("val", self.history.val)):
                for row in rows:
                    self.log(split, row)

    def _continue(self, conditions: dict, code: dict[str, str]) -> None:
        """Keeps how the work was done up to the checkpoint. Records whether the code differs, or the conditions, such
        as the processor and the number of processes."""
        kept = {name: conditions[name] for name in self.resolved}
        kept["micro_batch_size"] = min(kept["micro_batch_size"], self.resolved["micro_batch_size"])
        lines = [
            f"{name} stays {value}, as when this run began (now {self.resolved[name]})"
            for name, value in kept.items()
            if self.resolved[name] != value
        ]
        self.resolved = kept
        if others := {name: value for name, value in self.conditions.items() if conditions.get(name) != value}:
            self.history.conditions_changed_at_step.append(self.history.step)
            lines += [f"{name} is {value}, was {conditions.get(name)}" for name, value in others.items()]
        if changed := sorted(file for file in self.code.keys() | code.keys() if self.code.get(file) != code.get(file)):
            self.history.code_changed_at_step.append(self.history.step)
            lines.append(f"the code changed since then: {', '.join(changed)}")
        if self.world.main:
            print(f"training resumes at step {self.history.step}", *lines, sep="; ", file=sys.stderr)

    def _state(self) -> dict:
        """Everything that a run needs to resume."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "best": self.best,
            "history": asdict(self.history),
            "conditions": self.conditions,
            "code": self.code,
        }

    def _checkpoint_if_due(self) -> None:
        done = self.history.step
        if self.world.main and done % self.checkpoint_every == 0 and done < self.params.steps:
            self.checkpoints.save(done, self._state())
        if self.world.main and done == self.constant_steps:
            self.checkpoints.save_constant(self._state())

    def _snapshot_and_evaluate(self) -> None:
        """Passes the model of each step to `snapshot`. Evaluates before the first step, after the last, and every
        `eval_every` steps between."""
        step, history = self.history.step, self.history
        if self.snapshot and self.world.main:
            self.snapshot(self.model, step)
        due = step % self.params.eval_every == 0 or step == self.params.steps
        if not due or (history.val and history.val[-1]["step"] == step):
            return
        self.model.eval()
        with torch.no_grad(), self.autocast():  # not inference_mode: see autocast_dtype
            row = {
                "step": step,
                "targets": history.targets,
                **self.evaluate(self.model, self.resolved["micro_batch_size"]),
            }
        if not math.isfinite(row["loss"]):
            raise InputError(f"the validation loss at step {step} is not finite: {row['loss']}")
        history.val.append(row)
        if self.world.main:
            self.log("val", row)
            tqdm.write(f"step {step}: validation loss {row['loss']:.4f}", file=sys.stderr)
        if self.keep_best and history.best_step == step:
            trained = ((name, weight) for name, weight in self.model.named_parameters() if weight.requires_grad)
            self.best = {name: weight.detach().to("cpu", copy=True) for name, weight in trained}
        if self.show and self.world.main:
            self.show(self.model, step)
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


def micro_batches(batch_size: int, processes: int, limit: int) -> int:
    """The number of micro-batches into which a batch is divided: the same number for each process, and as few as
    possible of at most `limit` samples. They have equal sizes, or sizes that differ by one."""
    per_process = math.ceil(batch_size / processes)
    return processes * math.ceil(per_process / limit)


def seed_dropout(seed: int, step: int, micro_batch: int) -> None:
    """Seeds torch's generators, so that the dropout masks of a micro-batch depend only on these three numbers."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step, micro_batch]).generate_state(1, np.uint64)[0]))


def trainable_parameters(model: nn.Module) -> dict[str, float]:
    """The number of trainable parameters, and their share of all parameters, adapters included."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    trainable = sum(size for size, trains in sizes if trains)
    return {"trainable_parameters": trainable, "trainable_share": trainable / sum(size for size, _ in sizes)}
