"""Where each result came from: the stages, and the machine that built the page."""

import hashlib
import json
import platform
from importlib.metadata import version
from itertools import takewhile

from gpt2.common.machine import cpu_count, processor

PACKAGES = ("torch", "transformers", "tiktoken", "numpy", "scikit-learn", "dvc")


def lineage(stages: list[str], lock: dict) -> list[dict]:
    """For each stage what `lock`, the content of dvc.lock, records: its command, params and outs, and one hash over all
    that the stage's result depends on and is. A stage not in it yet has only its name."""
    recorded = lock.get("stages", {})
    return [{"stage": stage, **(_entry(recorded[stage]) if stage in recorded else {})} for stage in stages]


def _entry(entry: dict) -> dict:
    return {
        "command": entry["cmd"],
        "hash": hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()[:16],
        "params": {key: value for file in entry.get("params", {}).values() for key, value in flat(file)},
        "outs": [{"path": out["path"], "md5": out.get("md5", "")} for out in entry.get("outs", [])],
    }


def flat(value: object, name: str = "") -> list[tuple[str, object]]:
    """A tree of params as dotted names and values."""
    if not isinstance(value, dict):
        return [(name, value)]
    return [pair for key, below in value.items() for pair in flat(below, f"{name}.{key}" if name else key)]


def changes(stages: list[dict], sample: dict) -> str:
    """The recorded params that differ from those of `sample`, as an overlay that makes the one into the other: YAML,
    each value as JSON, which is YAML too. "" where none differs."""
    shipped = dict(flat(sample))
    recorded = {key: value for stage in stages for key, value in stage.get("params", {}).items()}
    lines, above = [], []
    for key in sorted((key for key in recorded if recorded[key] != shipped.get(key)), key=lambda key: key.split(".")):
        *sections, name = key.split(".")
        common = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(sections, above, strict=False))))
        lines += [f"{'  ' * depth}{sections[depth]}:" for depth in range(common, len(sections))]
        lines.append(f"{'  ' * len(sections)}{name}: {json.dumps(recorded[key], ensure_ascii=False)}")
        above = sections
    return "\n".join(lines)


def environment() -> dict[str, str]:
    """Versions and processor of this machine; nothing that names the machine or its user."""
    return {
        "Python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "cores": str(cpu_count()),
    }
