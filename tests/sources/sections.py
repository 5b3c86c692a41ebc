"""Sections of the params for tests: those of the sample profile, with changes."""

from functools import reduce

from gpt2.config.data import DataParams
from gpt2.config.schema import parse
from stages.params import read_yaml
from tests.conftest import ROOT


def section(name: str, **changes):
    """The section data.NAME; `local__files=...` changes its key local.files."""
    data = read_yaml(ROOT / "profiles" / "sample.yaml")["data"]
    for key, value in changes.items():
        *path, last = key.split("__")
        reduce(dict.__getitem__, path, data[name])[last] = value
    return getattr(parse(DataParams, data, "sample"), name)
