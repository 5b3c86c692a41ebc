"""The training loop that pretraining and both kinds of fine-tuning share."""

import math
import sys
import time
from collections.abc import Callable, Collection
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

from gpt2.common.errors import InputError
from gpt2.common.progress import bar
from gpt2.common.stopwatch import stopwatch
from gpt2.config.params import MachineParams, OptimParams
from gpt2.runtime.device import Pending, cudnn_attention, device_name, peak_flops
from gpt2.runtime.precision import autocast, float32_products
from gpt2.runtime.world import World
from gpt2.training.batches import BatchOrder, Dataset
from gpt2.training.history import History, is_spike, shown
from gpt2.training.optim import constant_steps, learning_rate, make_optimizer
from gpt2.training.resume import Checkpoints
from gpt2.training.work import (
    advice,
    as_trained,
    continued,
    gradient_scaler,
    largest_that_fits,
    micro_batches,
    resolved,
    seed_dropout,
    share,
)

WARMUP_SHARE = 0.1  # share of a process's steps, at its start, that is not timed: code compiles and caches fill


class Launched(NamedTuple):
    """A training step whose work has been given to the device."""

    lr: float
    n_targets: int
    tokens: int  # padding included, over all processes
    figures: Pending  # each process's share of the loss, and the norm of the gradient


class Trainer:
    """Trains a model for `params.steps` optimizer steps, with evaluations and checkpoints.

    The model's `forward(inputs, targets)` returns the summed loss. `evaluate(model, batch_size)` returns metrics, among
    them `loss`; every process calls it. Only the main process calls the next three. `log(split, row)` gets each row of
    the history. `show(model, step)` runs after an evaluation. `snapshot(model, step)` runs after the steps in
    `snapshots`; 0 is before the first.

    `machine` says how the work is done. What it resolves to is part of each checkpoint and stays when a run resumes,
    except that a smaller `micro_batch_size` takes effect. `code`: the hash of each file of the code that decides the
    result. If the checkpoint has others, the run continues, and the history names the step. A run without a checkpoint
    begins from the state that `start(conditions)` returns, if any. `compile`: whether compiling may pay, since batches
    have the same shape.

    `keep_best`: the model ends with the weights of the lowest validation loss instead of the last ones. `patience`:
    training stops after this many consecutive evaluations without improvement; None disables early stopping.
    `flops_per_token`: floating-point operations that training needs per token, from which utilization is computed.
    `estimate`: see `largest_that_fits`.
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
        snapshots: Collection[int] = (),
        start: Callable[[dict], dict | None] | None = None,
        compile: bool = False,
        keep_best: bool = False,
        patience: int | None = None,
        flops_per_token: float | None = None,
        estimate: Callable[[int, dict], int] | None = None,
    ):
        self.model, self.data, self.params, self.world, self.seed = model.to(world.device), data, params, world, seed
        self.evaluate, self.log, self.show, self.start = evaluate, log, show, start
        self.snapshot, self.snapshots = snapshot, snapshots
        self.keep_best, self.patience, self.flops_per_token = keep_best, patience, flops_per_token
        self.estimate = estimate
        self.best: dict[str, Tensor] = {}  # with keep_best: the trainable parameters at best_step, on the CPU
        self.order = BatchOrder(len(data), params.batch_size, seed, data.lengths)
        self.optimizer = make_optimizer(model, params)
        self.checkpoints, self.checkpoint_every, self.code = Checkpoints(scratch), machine.checkpoint_every, code
        self.constant_steps = constant_steps(params)
        self.history = History()
        self.peak_flops = peak_flops(world.device)
        self.resolved = resolved(params, machine, data, compile, world.device)
        self.search_size = machine.micro_batch_size == "auto" and world.device.type == "cuda"
        self.step = 0
        self.scaler = gradient_scaler(self.resolved["precision"], world.device)
        self.has_dropout = any(isinstance(module, nn.Dropout) and module.p > 0 for module in model.modules())

    @property
    def conditions(self) -> dict:
        """What affects rounding: where the work is done, and how."""
        device, processes = device_name(self.world.device), self.world.size
        return {"device": device, "processes": processes, "threads": torch.get_num_threads(), **self.resolved}

    def fit(self) -> History:
        """Trains from the newest checkpoint, or from the start, to the last step or until patience runs out.

        Raises InputError when the loss or gradient is no longer finite or the memory of a GPU is full, naming the step
        and the last good checkpoint.
        """
        try:
            with float32_products(self.resolved["precision"]):
                self._resume()
            with float32_products(self.resolved["precision"]):  # the checkpoint may have been made in another
                self._train()
        except torch.OutOfMemoryError:
            where = f"at step {self.step} with micro-batches of {self.resolved['micro_batch_size']}"
            last = f"last good checkpoint: {self.checkpoints.newest()}"
            raise InputError(f"out of memory {where}: {advice(self.resolved)} and run again ({last})") from None
        if self.world.main:  # what follows may fail, and then the next run starts from here
            self.checkpoints.save(self.history.step, self._state())
        del self.forward  # DDP must end before the process group does: otherwise the process may hang at its end
        if self.keep_best:
            self.model.load_state_dict(self.model.state_dict() | self.best)  # frozen parameters have not changed
        return self.history

    def _train(self) -> None:
        params, world, history, self.step = self.params, self.world, self.history, self.history.step
        n_micro_batches = micro_batches(params.batch_size, world.size, self.resolved["micro_batch_size"])
        cudnn = self.resolved["compiled"] and world.device.type == "cuda"  # then batches have the same shape
        mine = range(world.rank, n_micro_batches, world.size)
        self.timed_from = history.step + WARMUP_SHARE * (params.steps - history.step)
        batches = share(self.data, self.order, range(history.step, params.steps), n_micro_batches, world)
        self.model.train()
        with bar(total=params.steps, initial=history.step, desc="train", unit="step", disable=not world.main) as pbar:
            self._snapshot_and_evaluate()
            batch, launched, self.clock = next(batches, None), None, time.perf_counter()
            stopwatch.start("first step")
            while self.step < params.steps and not history.out_of_patience(self.patience):
                lr, tokens = learning_rate(self.step, params), 0
                for group in self.optimizer.param_groups:
                    group["lr"] = lr
                loss = torch.zeros((), device=world.device)  # this process's share of the mean over the global batch
                for number in mine:  # gradients accumulate: each backward adds to them
                    inputs, targets, n_targets, counts = batch
                    if self.has_dropout:
                        seed_dropout(self.seed, self.step, number)
                    last = number == mine[-1]  # only then do processes add up their gradients
                    with nullcontext() if last or world.size == 1 else self.forward.no_sync():
                        with autocast(self.resolved["precision"], world.device), cudnn_attention(cudnn):
                            mean = self.forward(inputs, targets) / n_targets * counts
                        # DDP divides the sum by the number of processes. The scale is 1 unless training is in float16.
                        self.scaler.scale(mean * world.size).backward()
                    loss += mean.detach()
                    tokens += inputs.numel() * world.size
                    batch = next(batches, None)  # read while the device computes
                self.scaler.unscale_(self.optimizer)
                norm = nn.utils.clip_grad_norm_(self.model.parameters(), params.grad_clip)
                self.scaler.step(self.optimizer)
                self.scaler.update()
                self.optimizer.zero_grad()
                # The host reads the figures of a step while the device computes the next one, but reads those of a step
                # that something outlasting the run depends on before going on.
                figures = Pending(torch.cat([world.gather(loss), norm.view(1)]))
                earlier, launched = launched, Launched(lr, n_targets, tokens, figures)
                self.step += 1
                stopwatch.start("steps")
                if earlier:
                    self._record(pbar, earlier)
                if self._matters(self.step):
                    self._record(pbar, launched)
                    launched = None
                    self._checkpoint_if_due()
                    self._snapshot_and_evaluate()
                    self.clock = time.perf_counter()
            stopwatch.start("other")
            if world.main and history.step < params.steps:
                reason = f"no lower validation loss in {self.patience} evaluations"
                pbar.write(f"training ends at step {history.step}: {reason}", file=sys.stderr)

    def _record(self, pbar: tqdm, launched: Launched) -> None:
        """Adds a step to the history, or raises InputError if its loss or gradient is not finite.

        In float16 the scaled gradient of a step may be infinite. Such a step changes no weights and lowers the scale.
        """
        step, lr = self.history.step, launched.lr
        (*shares, grad_norm), done = launched.figures.read()
        seconds, self.clock = done - self.clock, done
        overflow = not math.isfinite(grad_norm) and self.scaler.is_enabled() and self.scaler.get_scale() >= 1
        if not (math.isfinite(sum(shares)) and (math.isfinite(grad_norm) or overflow)):
            raise InputError(self._diverged(step, lr, shares, grad_norm))
        figures = {"lr": lr, "loss": sum(shares), "grad_norm": None if overflow else grad_norm}
        self.history.add(figures, launched.n_targets, seconds if step >= self.timed_from else None)
        self._report(pbar, seconds, launched.tokens)

    def _matters(self, step: int) -> bool:
        """Whether an evaluation, snapshot or checkpoint, or the end of training, follows after `step` steps."""
        params, every = self.params, (self.params.eval_every, self.checkpoint_every)
        ends = (params.steps, self.constant_steps, *self.snapshots)
        return step in ends or any(step % period == 0 for period in every)

    def _report(self, pbar: tqdm, seconds: float, tokens: int) -> None:
        """Reports the last step: `seconds` long, with `tokens` tokens (padding included) over all processes."""
        row, speed = self.history.train[-1], tokens / seconds
        if self.world.main:
            self.log("train", row)
        figures = {**shown(row), "ms": f"{1000 * seconds:.0f}", "tok/s": f"{speed:,.0f}"}
        if self.peak_flops and self.flops_per_token:
            figures["MFU"] = f"{speed * self.flops_per_token / (self.peak_flops * self.world.size):.1%}"
        pbar.set_postfix(figures, refresh=False)
        pbar.update()
        if self.world.main and is_spike(self.history.train):
            pbar.write(f"loss spike at step {row['step']}: {row['loss']:.3f}", file=sys.stderr)

    def _resume(self) -> None:
        """Loads the newest checkpoint, or what `start` returns. Makes `forward`, the model as a training step calls it.

        Every process gets the main process's state: other machines may see an older file or none.
        """
        state = self.world.from_main(self.checkpoints.load() if self.world.main else None)
        if state is not None:
            self._load(state)
        self.forward = as_trained(self.model, self.world, self.resolved["compiled"], self.resolved["recompute"])
        if state is None:
            if self.search_size:
                self.resolved["micro_batch_size"] = largest_that_fits(
                    self.forward, self.data, self.params, self.resolved, self.world, self.estimate
                )
            state = self.world.from_main(self.start(self.conditions) if self.start and self.world.main else None)
            if state is not None:
                self._load(state)
        for split, rows in (("train", self.history.train), ("val", self.history.val)) if self.world.main else ():
            for row in rows:
                self.log(split, row)

    def _load(self, state: dict) -> None:
        """Continues from a state."""
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.best = {name: weight.cpu() for name, weight in state["best"].items()}
            self.history = History(**state["history"])
            self._continue(state["conditions"], state["code"])
            self.scaler = gradient_scaler(self.resolved["precision"], self.world.device)
            self.scaler.load_state_dict(state.get("scaler", {}))
        except torch.OutOfMemoryError:
            raise
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"{self.checkpoints.newest()}: not a checkpoint of this run; delete it: {error}") from None

    def _continue(self, conditions: dict, code: dict[str, str]) -> None:
        """Keeps how the work was done up to the checkpoint. Records whether the code differs, or the conditions, such
        as the processor and the number of processes."""
        self.resolved, lines = continued(self.resolved, conditions, keep_size=self.search_size)
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
            "scaler": self.scaler.state_dict(),
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

    @stopwatch.part("evaluation")
    def _snapshot_and_evaluate(self) -> None:
        """Evaluates before the first step, after the last, and every `eval_every` steps between."""
        step, history = self.history.step, self.history
        if self.snapshot and self.world.main and step in self.snapshots:
            with stopwatch.part("saving"):
                self.snapshot(self.model, step)
        due = step % self.params.eval_every == 0 or step == self.params.steps
        if not due or (history.val and history.val[-1]["step"] == step):
            return
        self.model.eval()
        with torch.no_grad(), autocast(self.resolved["precision"], self.world.device):
            metrics = self.evaluate(self.model, self.resolved["micro_batch_size"])
        row = {"step": step, "targets": history.targets, **metrics}
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

    def _diverged(self, step: int, lr: float, shares: list[float], grad_norm: float) -> str:
        ranks = [str(rank) for rank, share in enumerate(shares) if not math.isfinite(share)]
        where = f" (not finite on rank {', '.join(ranks)} of {len(shares)})" if ranks and len(shares) > 1 else ""
        return (
            f"training diverged at step {step}: loss {sum(shares)}{where}, gradient norm {grad_norm}, learning rate "
            f"{lr:g}; lower lr or lengthen warmup_steps (last good checkpoint: {self.checkpoints.newest()})"
        )
