"""Where each result came from: the stages recorded in dvc.lock, and the machine that built the page."""

import hashlib
import json
import platform
from importlib.metadata import version

from gpt2.common.machine import cpu_count, processor
from gpt2.common.mappings import flat

PACKAGES = ("torch", "transformers", "tiktoken", "numpy", "scikit-learn", "dvc")


def lineage(stages: list[str], lock: dict) -> list[dict]:
    """One row per stage with what `lock`, the content of dvc.lock, records of it: its command, params and outs, and
    one hash over all of that and its deps. The row of a stage that is not recorded holds only its name."""
    recorded = lock.get("stages", {})
    return [{"stage": stage, **(_entry(recorded[stage]) if stage in recorded else {})} for stage in stages]


def _entry(entry: dict) -> dict:
    return {
        "command": entry["cmd"],
        "hash": hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()[:16],
        "params": {key: value for file in entry.get("params", {}).values() for key, value in flat(file).items()},
        "outs": [{"path": out["path"], "md5": out.get("md5", "")} for out in entry.get("outs", [])],
    }


def changes(stages: list[dict], sample: dict) -> str:
    """The recorded params that differ from `sample`, as a profile in JSON, which is YAML; "" if none differs."""
    shipped = flat(sample)
    profile: dict = {}
    for stage in stages:
        for key, value in stage.get("params", {}).items():
            if key not in shipped or shipped[key] != value:
                *sections, name = key.split(".")
                section = profile
                for parent in sections:
                    section = section.setdefault(parent, {})
                section[name] = value
    return json.dumps(profile, indent=2, ensure_ascii=False) if profile else ""


def environment() -> dict[str, str]:
    """Versions and processor of this machine; nothing that identifies the machine or its user."""
    return {
        "Python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "cores": str(cpu_count()),
    }
