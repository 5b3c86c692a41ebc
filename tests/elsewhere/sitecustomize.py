"""Takes away what only some systems have, in every Python process that has this folder on its PYTHONPATH.

`fcntl` stays, because asyncio, which DVC imports, needs it on Linux. So does `resource` inside of psutil, which DVC
imports too. Popen does not call `os.fork`.
"""

import ctypes
import os
import signal
import sys

import psutil  # noqa: F401 (on Linux it imports `resource`)

for name in ("sched_getaffinity", "sched_setaffinity", "mkfifo", "fork", "forkpty"):
    delattr(os, name)
del signal.SIGPIPE
sys.modules["resource"] = None  # `import resource` raises ImportError
find = ctypes.CDLL.__getattr__


def find_others(library: ctypes.CDLL, name: str):
    if name in ("prctl", "mallopt"):
        raise AttributeError(f"no {name} here")
    return find(library, name)


ctypes.CDLL.__getattr__ = find_others
