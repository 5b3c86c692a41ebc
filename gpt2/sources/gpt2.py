"""A GPT-2 checkpoint with its tokenizer, in the layout of transformers: from the hub, or from a folder."""

import shutil
from collections.abc import Collection
from pathlib import Path

from gpt2.common.errors import InputError
from gpt2.common.files import size_and_hash
from gpt2.sources.hub import Repository

MODEL = ("config.json", "model.safetensors")
TOKENIZER = ("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json")


def fetch_model(repo: str, directory: Path) -> dict:
    """Downloads a checkpoint, e.g. openai-community/gpt2, into `directory`; returns its manifest.

    Raises InputError naming the repo if it is missing, gated, cannot be reached or lacks a file.
    """
    repository = Repository("model", repo, key="data.gpt2.repo")
    names = _choose(repository.paths, f"data.gpt2.repo = {repo!r}")
    return {**repository.record(), "files": _copy({name: repository.download(name) for name in names}, directory)}


def copy_model(source: Path, directory: Path) -> dict:
    """Copies a checkpoint from a folder; returns its manifest. Raises InputError naming a file that it lacks."""
    names = _choose({path.name for path in source.iterdir()}, str(source))
    return {"source": "local", "files": _copy({name: source / name for name in names}, directory)}


def _choose(names: Collection[str], where: str) -> list[str]:
    """The files of a checkpoint among `names`. transformers 5 saves tokenizer.json alone."""
    vocabulary = ("tokenizer.json",) if "tokenizer.json" in names else TOKENIZER[:2]
    for name in (*MODEL, *vocabulary):
        if name not in names:
            raise InputError(f"{where}: no file {name}; expected a GPT-2 with its tokenizer")
    return [name for name in (*MODEL, *TOKENIZER) if name in names]


def _copy(files: dict[str, Path], directory: Path) -> list[dict]:
    """Copies files into `directory` under their names; returns name, size and sha256 of each.

    Files are not linked: DVC makes what it tracks read-only, and an edit of config.json would reach the hub's cache.
    """
    for name, file in files.items():
        shutil.copyfile(file, directory / name)
    return [{"file": name, **size_and_hash(directory / name)} for name in sorted(files)]
