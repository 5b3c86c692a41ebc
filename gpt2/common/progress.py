"""Progress bars."""

import sys

from tqdm import tqdm


def bar(*args, **options) -> tqdm:
    """A tqdm bar on standard error: live on a terminal, elsewhere a plain line every five seconds."""
    if sys.stderr.isatty():
        return tqdm(*args, mininterval=0.2, dynamic_ncols=True, **options)
    return tqdm(*args, mininterval=5, ncols=0, file=_Lines(), **options)  # 0 columns: numbers without a bar


class _Lines:
    """A file for tqdm that writes each update to standard error as a separate line."""

    def write(self, text: str) -> None:
        if line := text.strip():
            print(line, file=sys.stderr)

    def flush(self) -> None:
        sys.stderr.flush()
