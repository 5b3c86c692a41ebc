"""The record of a training run, row by row."""

from dataclasses import dataclass, field

import numpy as np

SPIKE_WINDOW = 50  # previous steps with which a step's loss is compared
SPIKE_DEVIATIONS = 5  # a loss is a spike if it exceeds their mean by this many standard deviations


@dataclass
class History:
    """The record of a run. It is part of each checkpoint, so that a resumed run reports all of its steps."""

    step: int = 0  # optimizer steps done
    train: list[dict] = field(default_factory=list)  # step, targets seen, lr, loss, grad_norm (None: see skipped_steps)
    val: list[dict] = field(default_factory=list)  # step, targets seen, and what `evaluate` returned
    seconds: float = 0.0  # time of the timed training steps, without evaluation
    timed_targets: int = 0  # targets seen in those steps
    loss_spikes: int = 0  # steps that `is_spike` counts as spikes
    skipped_steps: int = 0  # float16: steps that changed no weights, because their scaled gradient was infinite
    code_changed_at_step: list[int] = field(default_factory=list)  # steps from which other code continued the run
    conditions_changed_at_step: list[int] = field(default_factory=list)  # or another processor, launcher, micro-batch

    @property
    def targets(self) -> int:
        """Targets seen so far."""
        return self.train[-1]["targets"] if self.train else 0

    @property
    def best(self) -> dict:
        """The row of `val` with the lowest loss; the earliest on ties."""
        return min(self.val, key=lambda row: row["loss"])

    @property
    def best_step(self) -> int:
        """The step with the lowest validation loss."""
        return self.best["step"]

    def out_of_patience(self, patience: int | None) -> bool:
        """Whether the last `patience` evaluations found no lower loss; never if it is None."""
        return patience is not None and sum(row["step"] > self.best_step for row in self.val) >= patience

    def add(self, figures: dict[str, float], n_targets: int, seconds: float | None) -> None:
        """Records a training step with `n_targets` targets; `seconds` is None if the step is not timed."""
        self.train.append({"step": self.step, "targets": self.targets + n_targets, **figures})
        self.step += 1
        self.loss_spikes += is_spike(self.train)
        self.skipped_steps += figures["grad_norm"] is None
        if seconds is not None:
            self.seconds += seconds
            self.timed_targets += n_targets


def is_spike(rows: list[dict]) -> bool:
    """Whether the last row's `loss` is more than SPIKE_DEVIATIONS standard deviations above the mean of the
    SPIKE_WINDOW before it. The first SPIKE_WINDOW steps are never spikes: too few losses come before them."""
    if len(rows) <= SPIKE_WINDOW:
        return False
    before = np.array([row["loss"] for row in rows[-SPIKE_WINDOW - 1 : -1]])
    return bool(rows[-1]["loss"] > before.mean() + SPIKE_DEVIATIONS * before.std())


def shown(row: dict) -> dict[str, str]:
    """The figures of a training row in few characters."""
    norm = "overflow" if row["grad_norm"] is None else f"{row['grad_norm']:.2f}"
    return {"loss": f"{row['loss']:.3f}", "lr": f"{row['lr']:.2e}", "norm": norm}
