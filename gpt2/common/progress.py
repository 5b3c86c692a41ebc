"""Progress bars."""

import sys

from tqdm import tqdm


def bar(*args, **options) -> tqdm:
    """A tqdm bar on standard error that updates live on a terminal and every ten seconds in a log."""
    return tqdm(*args, mininterval=0.2 if sys.stderr.isatty() else 10, dynamic_ncols=True, **options)
