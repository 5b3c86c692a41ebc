"""One look for every progress bar."""

import sys

from tqdm import tqdm


def bar(*args, **options) -> tqdm:
    """A tqdm bar on standard error: live on a terminal, a line every ten seconds in a log."""
    return tqdm(*args, mininterval=0.2 if sys.stderr.isatty() else 10, dynamic_ncols=True, **options)
