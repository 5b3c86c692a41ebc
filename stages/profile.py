"""Merges a profile into `params.yaml`: `python -m stages.profile NAME`; `sample` restores what the project ships."""

import argparse
import difflib
import io
import sys
from collections.abc import MutableMapping
from pathlib import Path

from ruamel.yaml import YAML

from gpt2.common.errors import InputError
from gpt2.common.files import write_text
from gpt2.config.params import Params
from gpt2.config.schema import parse
from stages.params import PATH, read_yaml

PROFILES = Path("profiles")


def merge(params: MutableMapping, overlay: MutableMapping, where: str, key: str = "") -> None:
    """Puts the overlay's values into `params`, section by section. Raises InputError for a key `params` lacks."""
    for name, value in overlay.items():
        if name not in params:
            raise InputError(f"{where}: {key}{name} is an unknown key; expected one of {', '.join(params)}")
        if isinstance(params[name], MutableMapping) and isinstance(value, MutableMapping):
            merge(params[name], value, where, f"{key}{name}.")
        else:
            params[name] = value


def apply(profile: str) -> str:
    """Rewrites `params.yaml`, its comments kept, and returns the difference.

    Raises InputError for an unknown profile, and before writing for one that gives invalid params.
    """
    path = PROFILES / f"{profile}.yaml"
    known = sorted(file.stem for file in PROFILES.glob("*.yaml"))
    if profile not in known:
        raise InputError(f"unknown profile {profile!r}; expected one of {', '.join(known)}")
    yaml = YAML()  # round trip
    yaml.preserve_quotes = True
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 1000
    parse(Params, read_yaml(PATH), str(PATH))
    before, overlay = PATH.read_text(encoding="utf-8"), read_yaml(path)
    if not isinstance(overlay, MutableMapping):
        raise InputError(f"{path}: expected sections of params.yaml, found {type(overlay).__name__}")
    params = yaml.load(before)
    merge(params, overlay, str(path))
    after = io.StringIO()
    yaml.dump(params, after)
    parse(Params, YAML(typ="safe", pure=True).load(after.getvalue()), str(path))
    write_text(PATH, after.getvalue())
    lines = difflib.unified_diff(before.splitlines(), after.getvalue().splitlines(), str(PATH), str(PATH), lineterm="")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m stages.profile", description=__doc__)
    parser.add_argument("profile", help="a file name in profiles/, without .yaml")
    try:
        print(apply(parser.parse_args().profile) or f"{PATH} says so already")
    except InputError as error:
        sys.exit(str(error))
