"""Facts about this machine that need no torch."""

import os
import platform
from pathlib import Path


def processor() -> str:
    """The model name of the processor, from /proc/cpuinfo where there is one."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or "unknown")


def cpu_count() -> int:
    """The number of processors that this process may use, where the system tells; else of all processors."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
