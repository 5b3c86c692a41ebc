"""The samples of each training step.

Global batch `s` is a function of only `(seed, s)`: it depends neither on the number of processes, nor on the size of
micro-batches, nor on interruptions. If samples differ in length, a batch contains samples of similar length, because
padding costs as much computation as text.
"""

from typing import Protocol

import numpy as np
from torch import Tensor

CHUNK = 50  # batches that are sorted by length together; a larger value saves padding but mixes samples less


class Dataset(Protocol):
    """Numbered samples that a model learns from."""

    lengths: np.ndarray | None  # (n,) length of each sample in tokens; None: all have the same length

    def __len__(self) -> int:
        """The number of samples."""

    def batch(self, ids: np.ndarray) -> tuple[Tensor, Tensor]:
        """Inputs and targets of these samples, the arguments of the model's forward."""

    def targets(self, ids: np.ndarray) -> int:
        """The number of scored targets in these samples."""


class BatchOrder:
    """The order in which samples are seen: one seeded permutation after another.

    With `lengths` (n,) each permutation is cut into chunks of CHUNK batches, each chunk is sorted by length, and then
    its batches are permuted. Batches that span two epochs are not grouped this way. Within a batch, samples are also
    sorted by length, so that micro-batches need little padding. Every batch has the same weight, so a target weighs
    more in a batch with few targets, such as one of short responses.
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
                first = -epoch * self.n_samples % self.batch_size  # the start of this epoch's first whole batch
                count = max(0, (self.n_samples - first) // self.batch_size)
                whole = slice(first, first + count * self.batch_size)
                permutation[whole] = self._grouped(permutation[whole], generator)
            self._epoch, self._permutation = epoch, permutation
        return self._permutation

    def _grouped(self, ids: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Reorders the samples of whole batches, so that each batch contains samples of similar length."""
        size = CHUNK * self.batch_size
        chunks = [by_length(ids[start : start + size], self.lengths) for start in range(0, len(ids), size)]
        return generator.permutation(np.concatenate([ids[:0], *chunks]).reshape(-1, self.batch_size)).ravel()


def by_length(ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Sorts the samples `ids` from the shortest to the longest; samples of equal length keep their order."""
    return ids[np.argsort(lengths[ids], kind="stable")]
