"""Machine information that does not need torch, and limits of this process. Windows has no module `resource`."""

import os
import platform
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

try:
    import resource
except ImportError:
    resource = None


def processor() -> str:
    """The processor model that the system reports, or else its architecture."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    if sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        lines = [f"model name: {subprocess.run(command, capture_output=True, text=True).stdout}"]
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, "") or platform.processor() or platform.machine()


def cpu_count() -> int:
    """Number of cores that this process may use, at least 1."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak_resident_memory() -> int | None:
    """The peak resident memory of this process in bytes, or None where the system does not report it."""
    if resource is None:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def raise_open_files_limit() -> None:
    """Allows as many open files as the system permits."""
    if resource is not None:
        with suppress(ValueError, OSError):  # some systems report an infinite limit and then refuse it
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
