"""Which samples make up a step.

Global batch `s` is a function of `(seed, s)` alone. How many processes share it, how it is cut into micro-batches and
whether the run was interrupted do not matter.
"""

from typing import Protocol

import numpy as np
from torch import Tensor


class Dataset(Protocol):
    """Numbered samples that a model learns from."""

    def __len__(self) -> int:
        """How many samples there are."""

    def batch(self, ids: np.ndarray) -> tuple[Tensor, Tensor]:
        """Inputs and targets of these samples, what the model's forward takes."""

    def targets(self, ids: np.ndarray) -> int:
        """How many targets these samples have that are scored."""


class BatchOrder:
    """The order in which samples are seen: one seeded permutation after another."""

    def __init__(self, n_samples: int, batch_size: int, seed: int):
        assert n_samples > 0
        self.n_samples, self.batch_size, self.seed = n_samples, batch_size, seed
        self._epoch, self._permutation = -1, np.empty(0, dtype=np.int64)

    def ids(self, step: int) -> np.ndarray:
        """The samples of global batch `step`: (batch_size,). A batch may reach into the next epoch."""
        places = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        epochs, offsets = np.divmod(places, self.n_samples)
        return np.concatenate([self._of_epoch(epoch)[offsets[epochs == epoch]] for epoch in np.unique(epochs)])

    def _of_epoch(self, epoch: int) -> np.ndarray:
        if epoch != self._epoch:
            self._epoch = epoch
            self._permutation = np.random.default_rng([self.seed, epoch]).permutation(self.n_samples)
        return self._permutation
