"""Loss spikes: steps whose training loss stands far above what came before."""

import numpy as np

WINDOW = 50  # steps before the one in question
DEVIATIONS = 5  # of their losses, above their mean


def is_spike(rows: list[dict]) -> bool:
    """Whether the last row's `loss` is more than DEVIATIONS standard deviations above the mean of the WINDOW before it.

    The first WINDOW steps have too few before them to be judged. While the loss falls fast its deviation is large, and
    only a jump that undoes much of the fall counts.
    """
    if len(rows) <= WINDOW:
        return False
    before = np.array([row["loss"] for row in rows[-WINDOW - 1 : -1]])
    return bool(rows[-1]["loss"] > before.mean() + DEVIATIONS * before.std())


def count_spikes(rows: list[dict]) -> int:
    """How many of a run's steps are spikes."""
    return sum(is_spike(rows[max(0, end - WINDOW) : end + 1]) for end in range(len(rows)))
