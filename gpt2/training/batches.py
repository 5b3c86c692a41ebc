"""Which samples make up a step.

Global batch `s` is a function of `(seed, s)` alone. How many processes share it, how it is cut into micro-batches and
whether the run was interrupted do not matter. Where samples differ in length, a batch holds samples of about the same
length: what pads them to the longest costs as much as what they say.
"""

from typing import Protocol

import numpy as np
from torch import Tensor

CHUNK = 50  # batches that are sorted by length together: more would be more alike, and less often mixed with others


class Dataset(Protocol):
    """Numbered samples that a model learns from."""

    lengths: np.ndarray | None  # (n,) of the samples, in tokens; None: all alike

    def __len__(self) -> int:
        """How many samples there are."""

    def batch(self, ids: np.ndarray) -> tuple[Tensor, Tensor]:
        """Inputs and targets of these samples, what the model's forward takes."""

    def targets(self, ids: np.ndarray) -> int:
        """How many targets these samples have that are scored."""


class BatchOrder:
    """The order in which samples are seen: one seeded permutation after another.

    With `lengths` (n,) each permutation is cut into chunks of CHUNK batches, a chunk is sorted by length, and the order
    of the batches is permuted in turn; a batch that two epochs share stays as it fell. Within a batch samples stand by
    length, so that its micro-batches are alike too. As every batch weighs alike, a target weighs more in a batch that
    has few: those of short responses do.
    """

    def __init__(self, n_samples: int, batch_size: int, seed: int, lengths: np.ndarray | None = None):
        assert n_samples > 0
        self.n_samples, self.batch_size, self.seed, self.lengths = n_samples, batch_size, seed, lengths
        self._epoch, self._permutation = -1, np.empty(0, dtype=np.int64)

    def ids(self, step: int) -> np.ndarray:
        """The samples of global batch `step`: (batch_size,). A batch may reach into the next epoch."""
        places = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        epochs, offsets = np.divmod(places, self.n_samples)
        ids = np.concatenate([self._of_epoch(epoch)[offsets[epochs == epoch]] for epoch in np.unique(epochs)])
        return ids if self.lengths is None else by_length(ids, self.lengths)

    def _of_epoch(self, epoch: int) -> np.ndarray:
        if epoch != self._epoch:
            generator = np.random.default_rng([self.seed, epoch])
            permutation = generator.permutation(self.n_samples)
            if self.lengths is not None:
                first = -epoch * self.n_samples % self.batch_size  # where this epoch's first whole batch begins
                count = max(0, (self.n_samples - first) // self.batch_size)
                whole = slice(first, first + count * self.batch_size)
                permutation[whole] = self._alike(permutation[whole], generator)
            self._epoch, self._permutation = epoch, permutation
        return self._permutation

    def _alike(self, ids: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """These samples, whole batches of them, in another order: each batch of like lengths."""
        size = CHUNK * self.batch_size
        chunks = [by_length(ids[start : start + size], self.lengths) for start in range(0, len(ids), size)]
        return generator.permutation(np.concatenate([ids[:0], *chunks]).reshape(-1, self.batch_size)).ravel()


def by_length(ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """These samples from the shortest to the longest; equal ones stay in order."""
    return ids[np.argsort(lengths[ids], kind="stable")]
