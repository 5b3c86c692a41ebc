"""Fixtures that several test modules share, and an environment without the user's settings."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).parents[1]
ELSEWHERE = ROOT / "tests/elsewhere"  # on PYTHONPATH: no call that only Linux, or only POSIX, has

# Libraries read these when they are imported, and commands that tests start inherit them.
for name in list(os.environ):
    if name.startswith(("HF_", "HUGGING", "DATASETS_", "TRANSFORMERS_", "TIKTOKEN_", "WANDB_")):
        del os.environ[name]
os.environ["HF_HOME"] = str(Path(tempfile.gettempdir(), "gpt2-tests"))  # not the cache and login of the user
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ |= dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost")

# git and DVC read these in commands that tests start. They name no hooks, no signature and no cache of the user.
os.environ |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
os.environ |= dict.fromkeys(("DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR"), os.environ["HF_HOME"])

settings.register_profile("untimed", deadline=None)  # a busy machine fails no test
settings.load_profile("untimed")

LONG = ("test_chain", "test_launch", "test_chain_from_hub", "test_console", "test_remote", "test_stage")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begins with the files that take minutes, so that no process is left with one while the others have ended."""
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets that GPT2_REAL_DATA names."""
    if "GPT2_REAL_DATA" not in os.environ:
        pytest.skip("GPT2_REAL_DATA names no folder of real data")
    return Path(os.environ["GPT2_REAL_DATA"]).resolve()
