"""Reading packages, tokenizing, checking shards and generating, without the calls that not all systems have."""

import os
import subprocess
import sys

from tests.conftest import ELSEWHERE, ROOT

TESTS = (
    "tests/sources/docstrings/test_packages.py::test_workers_change_nothing",
    "tests/tokens/test_tokenize.py::test_the_bytes_do_not_depend_on_the_number_of_workers[2]",
    "tests/tokens/test_shards.py::test_the_command_verify",
    "tests/tokens/test_shards.py::test_the_command_stats",
    "tests/commands/test_generate.py::test_several_samples_follow_one_another",
)
TAKEN = """
import ctypes, multiprocessing, os
assert not any(hasattr(os, name) for name in ("sched_getaffinity", "mkfifo", "fork"))
assert not hasattr(ctypes.CDLL(None), "prctl")
try:
    import resource
except ImportError:
    print("all gone")
"""


def test_the_same_tests_pass_without_what_only_linux_has():
    environment = os.environ | {"PYTHONPATH": str(ELSEWHERE)}
    here = {"cwd": ROOT, "env": environment, "capture_output": True, "text": True}
    assert subprocess.run([sys.executable, "-c", TAKEN], **here).stdout == "all gone\n"
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS], **here)
    assert done.returncode == 0 and done.stdout.startswith("." * len(TESTS)), done.stdout + done.stderr
