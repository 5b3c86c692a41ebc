"""A hub of one's own, and processes that use it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.loopback_hub import LoopbackHub

PRELUDE = """
import json
from gpt2.errors import InputError
from gpt2.sources.hub import Repository

def repository(name="owner/set", revision="main", kind="dataset"):
    return Repository(kind, name, revision, key="data.corpus.hub", wait=0.001)

def fetch(*patterns, **which):
    found = repository(**which)
    paths = found.matching(patterns or ["*"])
    return {path: str(file) for path, file in zip(paths, found.fetch(paths), strict=True)}

def refusal(act, *arguments, **options):
    try:
        return act(*arguments, **options) and None
    except InputError as error:
        return str(error)

def show(value):
    print(json.dumps(value))
"""


class Client:
    """Runs Python in processes that take `hub` for the hub: huggingface_hub reads HF_ENDPOINT when it is imported."""

    def __init__(self, hub: LoopbackHub, home: Path):
        self.hub, self.home = hub, home

    def start(self, code: str, **environment: str) -> subprocess.Popen:
        environment = {**os.environ, **self.hub.environment(self.home), **environment}
        command = [sys.executable, "-c", PRELUDE + code]
        return subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def run(self, code: str, **environment: str):
        """What the code shows."""
        process = self.start(code, **environment)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err.decode()
        return json.loads(out)


@pytest.fixture
def hub():
    with LoopbackHub() as hub:
        yield hub


@pytest.fixture
def client(hub, tmp_path) -> Client:
    return Client(hub, tmp_path / "home")
