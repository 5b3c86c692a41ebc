"""The smoke chain, which DVC runs once for all tests that need its results."""

import os
import shutil
from pathlib import Path

import pytest
from filelock import FileLock

from tests.repository import Clone, Repository


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """A repository in which the chain has run and is committed. Tests work in clones of it.

    With pytest-xdist each worker has its own session: the first worker runs the chain, the others wait for it.
    """
    base = tmp_path_factory.getbasetemp()
    place = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "finished-chain"
    with FileLock(f"{place}.lock"):
        if not place.exists():
            unfinished = place.with_name("unfinished-chain")
            shutil.rmtree(unfinished, ignore_errors=True)  # a worker that failed in it
            unfinished.mkdir()
            repository = Repository(unfinished, "smoke", HF_HUB_OFFLINE="1")
            repository.ok("dvc", "repro")
            repository.commit()
            unfinished.rename(place)
    return place


@pytest.fixture(scope="module")
def chain(finished, tmp_path_factory) -> Clone:
    """A clone with the data and the cache of the finished chain, which the tests of a module share."""
    return Clone(finished, tmp_path_factory.mktemp("chain"))
