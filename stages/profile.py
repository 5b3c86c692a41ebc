"""Writes a profile to `params.yaml`: `python -m stages.profile NAME`. `sample` restores the original file.

A profile is whole: `profiles/sample.yaml` with the values of `profiles/NAME.yaml`, whatever `params.yaml` held before.
Values that the user changed by hand are listed, and stay only with --keep.
"""

import argparse
import io
import json
import sys
from collections.abc import MutableMapping
from functools import reduce
from operator import getitem
from pathlib import Path

from ruamel.yaml import YAML

from gpt2.common.errors import InputError
from gpt2.common.files import write_text
from gpt2.common.mappings import flat
from stages.params import PATH, parse_params, parse_yaml, read_yaml

PROFILES = Path("profiles")
SAMPLE = PROFILES / "sample.yaml"
OVERWRITTEN = "overwritten; --keep keeps them"

Leaves = dict[str, object]  # values by dotted name


def merge(params: MutableMapping, overlay: MutableMapping, where: str, key: str = "") -> None:
    """Writes the values of the overlay into `params`. Raises InputError for a key that `params` does not have."""
    for name, value in overlay.items():
        if name not in params:
            raise InputError(f"{where}: {key}{name} is an unknown key; expected one of {', '.join(params)}")
        if isinstance(params[name], MutableMapping) and isinstance(value, MutableMapping):
            merge(params[name], value, where, f"{key}{name}.")
        else:
            params[name] = value


def overlaid(params: MutableMapping, profile: str) -> MutableMapping:
    """`params` of the sample with the values of a profile. Raises InputError if a key is not in the sample."""
    path = PROFILES / f"{profile}.yaml"
    overlay = read_yaml(path)
    if not isinstance(overlay, MutableMapping):
        raise InputError(f"{path}: expected sections of params.yaml, found {type(overlay).__name__}")
    merge(params, overlay, str(path))
    return params


def compose(profile: str, kept: Leaves) -> str:
    """The text of `params.yaml` in a profile, with the comments of the sample. The kept values are put on top."""
    sample = SAMPLE.read_text(encoding="utf-8")
    if profile == SAMPLE.stem and not kept:
        return sample
    yaml = YAML()  # round trip
    yaml.preserve_quotes = True
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 1000
    params = overlaid(yaml.load(sample), profile)
    for key, value in kept.items():
        *sections, name = key.split(".")
        reduce(getitem, sections, params)[name] = value
    text = io.StringIO()
    yaml.dump(params, text)
    return text.getvalue()


def read_present() -> tuple[Leaves, str]:
    """The values in `params.yaml`, and why there are none. The file may have any keys."""
    try:
        content = read_yaml(PATH)
    except InputError as error:
        return {}, str(error)
    if not isinstance(content, MutableMapping):
        return {}, f"{PATH}: expected sections, found {type(content).__name__}"
    return flat(content), ""


def origin(present: Leaves, profiles: list[str]) -> tuple[str, Leaves]:
    """The profile with the fewest values that differ from the present ones, and its values."""
    candidates = {}
    for profile in profiles:
        try:
            candidates[profile] = flat(overlaid(read_yaml(SAMPLE), profile))
        except InputError:  # a user's own profile, unfinished or of an older version
            continue
    return min(candidates.items(), key=lambda item: len(_differing(item[1], present)))


def _differing(old: Leaves, new: Leaves) -> list[str]:
    """The names that both have, with different values."""
    return [key for key in old if key in new and old[key] != new[key]]


def switch(profile: str, keep: bool = False) -> tuple[str, list[str], list[str]]:
    """The new text of `params.yaml`, lines that name the user's own values, and lines that list all other changes.

    Raises InputError for an unknown profile, for one that makes params invalid, for a kept value that does so, and
    for values to keep that cannot be read.
    """
    known = sorted(file.stem for file in PROFILES.glob("*.yaml"))
    if profile not in known:
        raise InputError(f"unknown profile {profile!r}; expected one of {', '.join(known)}")
    text = compose(profile, {})
    target = _validated(text, f"{PROFILES}/{profile}.yaml")
    present, problem = read_present()
    if problem and keep and PATH.exists():
        raise InputError(f"{problem}; without --keep the file is replaced")
    if problem:
        return text, [], [f"{problem}: replaced"]
    came_from, shipped = origin(present, [profile, *known])
    changed = [key for key in _differing(shipped, present) if target[key] != present[key]]
    own = []
    if changed:
        own.append(f"changed by hand since the profile {came_from}, {'kept' if keep else OVERWRITTEN}:")
        own += [f"  {key}: {_show(present[key])}" + ("" if keep else f" -> {_show(target[key])}") for key in changed]
    if changed and keep:
        text = compose(profile, {key: present[key] for key in changed})
        target = _validated(text, f"{profile} with the values that you changed in {PATH}")
    if dropped := [key for key in present if key not in target]:
        own.append(f"dropped, because {PATH} has no such keys: {', '.join(dropped)}")
    others = [key for key in target if key not in changed and (key not in present or present[key] != target[key])]
    old = {key: _show(present[key]) if key in present else "missing" for key in others}
    return text, own, [f"{key}: {old[key]} -> {_show(target[key])}" for key in others]


def _validated(text: str, where: str) -> Leaves:
    params = parse_yaml(text, where)
    parse_params(params, where)
    return flat(params)


def _show(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m stages.profile", description=__doc__)
    parser.add_argument("profile", help="the name of a file in profiles/, without .yaml")
    parser.add_argument("--keep", action="store_true", help="keep the values that you changed by hand")
    arguments = parser.parse_args()
    try:
        text, own, others = switch(arguments.profile, arguments.keep)
        if own:
            print("\n".join(own), flush=True)  # before they are overwritten
        write_text(PATH, text)
        print("\n".join(others) or f"{PATH} already has {'all other' if own else 'these'} values")
    except InputError as error:
        sys.exit(str(error))
