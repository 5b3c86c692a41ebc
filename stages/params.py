"""Reads and validates `params.yaml`. As a command (`python -m stages.params`) it only validates the file."""

import sys
from pathlib import Path

from ruamel.yaml import YAML, YAMLError

from gpt2.common.errors import InputError
from gpt2.common.mappings import flat
from gpt2.config.params import Params
from gpt2.config.schema import parse

PATH = Path("params.yaml")


def read_yaml(path: Path) -> object:
    """Reads YAML 1.2, where 1e-05 is a number. DVC writes floats that way, and PyYAML would read a string.

    Raises InputError that names the file and, for a syntax error, the line.
    """
    try:
        return parse_yaml(path.read_bytes(), str(path))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run from the top of the repository") from None


def parse_yaml(text: bytes | str, where: str) -> object:
    """Parses YAML 1.2. Raises InputError that names `where` and the line."""
    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise InputError(f"{where}{line}: not valid YAML: {getattr(error, 'problem', error)}") from None


def read_params() -> Params:
    """Reads all params. Raises InputError that names the first key that is wrong."""
    return parse_params(read_yaml(PATH), str(PATH))


def parse_params(raw: object, where: str) -> Params:
    """Validates the content of a `params.yaml`. Raises InputError that names `where` and the first key that is wrong.

    A key may not be missing even if its class has a default: DVC reruns a stage only for values in the file.
    """
    params = parse(Params, raw, where)
    present = flat(raw)
    for key in flat(params.model_dump()):
        if key not in present:
            raise InputError(f"{where}: {key} is missing")
    return params


def declares(declared: list[str], name: str) -> bool:
    """Whether the declared params of a stage include a param, or a section around it."""
    return any(f"{name}.".startswith(f"{section}.") for section in declared)


if __name__ == "__main__":
    try:
        read_params()
    except InputError as error:
        sys.exit(str(error))
