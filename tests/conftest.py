"""Fixtures that several test modules share."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets that GPT2_REAL_DATA names."""
    if "GPT2_REAL_DATA" not in os.environ:
        pytest.skip("GPT2_REAL_DATA names no folder of real data")
    return Path(os.environ["GPT2_REAL_DATA"]).resolve()
