"""Reads `params.yaml`, whole and validated. As a command (`python -m stages.params`) it only checks the file."""

import sys
from pathlib import Path

from ruamel.yaml import YAML, YAMLError

from gpt2.common.errors import InputError
from gpt2.config.params import Params
from gpt2.config.schema import parse

PATH = Path("params.yaml")


def read_yaml(path: Path) -> object:
    """Reads YAML 1.2, in which 1e-05 is a number (DVC writes floats so; PyYAML would read a string).

    Raises InputError naming the file and, for a syntax error, the line.
    """
    try:
        return parse_yaml(path.read_bytes(), str(path))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run from the top of the repository") from None


def parse_yaml(text: bytes, where: str) -> object:
    """As `read_yaml`, of the content of a file that `where` names."""
    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise InputError(f"{where}{line}: not valid YAML: {getattr(error, 'problem', error)}") from None


def read_params() -> Params:
    """All params, typed. Raises InputError naming the first key that is wrong."""
    return parse(Params, read_yaml(PATH), str(PATH))


if __name__ == "__main__":
    try:
        read_params()
    except InputError as error:
        sys.exit(str(error))
