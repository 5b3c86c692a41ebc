"""Finds runs of words that texts share, to keep evaluation text apart from training text.

Brown et al. 2020 (GPT-3), appendix C, calls an example contaminated if 13 consecutive words of it occur in the training
text. Here a shorter text is contaminated if it occurs there whole.
"""

import re
from array import array
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

RUN = 13  # words
WORDS = re.compile(r"[a-z0-9]+")
BREAK, UNKNOWN = 0, 1  # between texts, and for a word that no text has; words are numbered from 2
FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd, so that multiplying by it modulo 2**64 loses nothing
POWERS = FACTOR ** np.arange(RUN, dtype=np.uint64)


def words(text: str) -> list[str]:
    """Runs of Latin letters and digits, in lower case."""
    return WORDS.findall(text.lower())


class Phrases:
    """The runs of words that occur in a collection of texts."""

    def __init__(self, texts: Iterable[str]):
        self._ids: dict[str, int] = {}
        stream = array("Q")
        for text in texts:
            stream.extend([self._ids.setdefault(word, len(self._ids) + 2) for word in words(text)])
            stream.append(BREAK)
        with ThreadPoolExecutor() as pool:  # numpy sorts without holding the GIL
            self._runs = list(pool.map(np.sort, _hashes(np.array(stream))))  # runs of 1, 2, ... RUN words

    def shared(self, parts: list[str]) -> set[int]:
        """The indices of the parts of a text that overlap with the collection.

        These are the parts that a shared run of RUN words touches, even across parts, and the parts of fewer words that
        are a shared run themselves.
        """
        ids = [self._numbers(part) for part in parts]
        owner = [i for i, part in enumerate(ids) for _ in part]
        touched = {i for start in self._starts(np.concatenate(ids), RUN) for i in owner[start : start + RUN]}
        return touched | {i for i, part in enumerate(ids) if 0 < len(part) < RUN and len(self._starts(part, len(part)))}

    def _numbers(self, text: str) -> np.ndarray:
        return np.array([self._ids.get(word, UNKNOWN) for word in words(text)], dtype=np.uint64)

    def _starts(self, ids: np.ndarray, size: int) -> np.ndarray:
        """The indices in `ids` at which shared runs of `size` words start."""
        known = self._runs[size - 1]
        hashes = (
            np.convolve(ids, POWERS[:size], "valid") if len(ids) >= size else ids[:0]
        )  # the same numbers as _hashes
        return np.flatnonzero(np.searchsorted(known, hashes, "left") < np.searchsorted(known, hashes, "right"))


def _hashes(ids: np.ndarray) -> Iterator[np.ndarray]:
    """For each length from 1 to RUN, the hashes of all runs of that many ids.

    A hash is the last id of the run, plus FACTOR times the one before, plus FACTOR**2 times the one before that, and so
    on, modulo 2**64. A collision drops a text for nothing; equal runs are never missed.
    """
    hashes = np.zeros(len(ids), dtype=np.uint64)
    for size in range(1, RUN + 1):
        hashes = hashes[: max(len(ids) - size + 1, 0)] * FACTOR + ids[size - 1 :]
        yield hashes
