"""A GPT-2 checkpoint with its tokenizer, as transformers lays it out: from the hub, or from a folder."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open

from gpt2.common.errors import InputError
from gpt2.common.files import read_json, size_and_hash
from gpt2.sources.hub.repository import Repository

NEEDED = ("config.json", "model.safetensors", "vocab.json", "merges.txt")
OPTIONAL = ("tokenizer.json", "tokenizer_config.json")


def fetch_model(repo: str, revision: str, directory: Path) -> dict:
    """Downloads a checkpoint into `directory`, e.g. that of openai-community/gpt2 or of its larger sisters.

    Returns what was fetched: repo, revision, the commit that the hub resolved it to, and size and sha256 of each file.
    Raises InputError naming the repo when it is missing, gated, cannot be reached or lacks a file,
    and naming a file that is no GPT-2's.
    """
    repository = Repository("model", repo, revision, key="data.gpt2")
    names = repository.matching(["*"])
    for name in NEEDED:
        if name not in names:
            raise InputError(f"data.gpt2.repo = {repo!r}: no {name} at revision {revision!r}; expected a GPT-2")
    names = [name for name in (*NEEDED, *OPTIONAL) if name in names]
    found = dict(zip(names, repository.fetch(names), strict=True))
    return {**repository.record(), "files": _copied(found, directory)}


def copy_model(source: Path, directory: Path) -> dict:
    """Takes a checkpoint from a folder of one's own. Raises InputError naming a file that is missing or no GPT-2's."""
    for name in NEEDED:
        if not (source / name).is_file():
            raise InputError(f"{source / name}: no such file; data.gpt2.source = 'local' needs {', '.join(NEEDED)}")
    found = {name: source / name for name in (*NEEDED, *OPTIONAL) if (source / name).is_file()}
    return {"source": "local", "files": _copied(found, directory)}


def _copied(files: Mapping[str, Path], directory: Path) -> list[dict]:
    """Checks files and copies them into `directory` under their names; returns name, size and sha256 of each.

    Copies, not links: DVC takes away the right to write to what it tracks, and whoever edits config.json in place
    would edit it in the hub's cache too.
    """
    _check(files["config.json"], files["model.safetensors"])
    for name, file in files.items():
        shutil.copyfile(file, directory / name)
    return [{"file": name, **size_and_hash(directory / name)} for name in sorted(files)]


def _check(config: Path, weights: Path) -> None:
    """Raises InputError naming the file that cannot be a GPT-2's; reads no weights, only what the file says of them."""
    settings = read_json(config)
    kind = settings.get("model_type") if isinstance(settings, dict) else None
    if kind != "gpt2":
        raise InputError(f"{config}: model_type = {kind!r}: expected 'gpt2'")
    try:
        with safe_open(weights, framework="numpy") as tensors:  # compares the header with the file's size
            if not list(tensors.keys()):
                raise InputError(f"{weights}: expected weights, found no tensor")
    except SafetensorError as error:
        raise InputError(f"{weights}: not a whole safetensors file: {error}") from None
