"""Where the time of a process goes. One part runs at any moment, so the parts add up to the whole.

start-up     imports and reading inputs: until a stage begins its work, or training its first step
first step   the first training step, with compiling
steps        the other training steps
evaluation   on the validation data, with the texts that training prints
saving       checkpoints and snapshots
other        everything else, such as the work of a stage that trains nothing
"""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

PARTS = ("start-up", "first step", "steps", "evaluation", "saving", "other")


class Stopwatch:
    """Adds up the seconds of each part."""

    def __init__(self):
        self.restart(time.time())

    def restart(self, began: float) -> None:
        """Measures a process that began then, in seconds since the epoch, and is in its start-up."""
        self.seconds: Counter[str] = Counter()
        self._part, self._since = "start-up", began

    def start(self, part: str) -> str:
        """Ends the part that runs and starts another, or the same again. Returns the one that ended."""
        assert part in PARTS, part
        ended, now = self._part, time.time()
        self.seconds[ended] += now - self._since
        self._part, self._since = part, now
        return ended

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Runs a part for the length of the block, then the one before it again. Decorates functions, too."""
        before = self.start(name)
        try:
            yield
        finally:
            self.start(before)


stopwatch = Stopwatch()  # of this process
