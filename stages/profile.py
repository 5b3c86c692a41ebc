"""Merges a profile into `params.yaml`: `python -m stages.profile NAME`. `sample` restores the original file."""

import argparse
import difflib
import io
import sys
from collections.abc import MutableMapping
from pathlib import Path

from ruamel.yaml import YAML

from gpt2.common.errors import InputError
from gpt2.common.files import write_text
from stages.params import PATH, parse_params, parse_yaml, read_params, read_yaml

PROFILES = Path("profiles")


def merge(params: MutableMapping, overlay: MutableMapping, where: str, key: str = "") -> None:
    """Writes the values of the overlay into `params`. Raises InputError for a key that `params` does not have."""
    for name, value in overlay.items():
        if name not in params:
            raise InputError(f"{where}: {key}{name} is an unknown key; expected one of {', '.join(params)}")
        if isinstance(params[name], MutableMapping) and isinstance(value, MutableMapping):
            merge(params[name], value, where, f"{key}{name}.")
        else:
            params[name] = value


def apply(profile: str) -> str:
    """Rewrites `params.yaml`, keeping its comments, and returns the difference.

    Raises InputError for an unknown profile and, before it writes anything, for one that makes params invalid.
    """
    path = PROFILES / f"{profile}.yaml"
    known = sorted(file.stem for file in PROFILES.glob("*.yaml"))
    if profile not in known:
        raise InputError(f"unknown profile {profile!r}; expected one of {', '.join(known)}")
    yaml = YAML()  # round trip
    yaml.preserve_quotes = True
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 1000
    read_params()
    before, overlay = PATH.read_text(encoding="utf-8"), read_yaml(path)
    if not isinstance(overlay, MutableMapping):
        raise InputError(f"{path}: expected sections of params.yaml, found {type(overlay).__name__}")
    params = yaml.load(before)
    merge(params, overlay, str(path))
    after = io.StringIO()
    yaml.dump(params, after)
    parse_params(parse_yaml(after.getvalue(), str(path)), str(path))
    write_text(PATH, after.getvalue())
    lines = difflib.unified_diff(before.splitlines(), after.getvalue().splitlines(), str(PATH), str(PATH), lineterm="")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m stages.profile", description=__doc__)
    parser.add_argument("profile", help="the name of a file in profiles/, without .yaml")
    try:
        print(apply(parser.parse_args().profile) or f"{PATH} already has these values")
    except InputError as error:
        sys.exit(str(error))
