"""A GPT-2 checkpoint with its tokenizer, in a layout of transformers: from the hub, or from a folder."""

import shutil
from collections.abc import Callable, Collection
from pathlib import Path

from gpt2.common.errors import InputError
from gpt2.common.files import size_and_hash
from gpt2.common.model_files import (
    GENERATION_FILE,
    INDEX,
    TOKENIZER,
    VOCABULARY,
    refuse_adapter,
    shard_names,
    weights_file,
)
from gpt2.sources.hub import Repository


def fetch_model(repo: str, directory: Path, check: Callable[[Path], object]) -> dict:
    """Downloads a checkpoint, e.g. openai-community/gpt2, into `directory`; returns its manifest.

    `check` is called with the directory when it has all but the weights. Raises InputError naming the repo if it is
    missing, gated, cannot be reached or lacks a file.
    """
    repository = Repository("model", repo, key="data.gpt2.repo")
    files = _copy(repository.paths, repository.download, directory, check, f"data.gpt2.repo = {repo!r}")
    return {**repository.record(), "files": files}


def copy_model(source: Path, directory: Path, check: Callable[[Path], object]) -> dict:
    """Copies a checkpoint from a folder, as `fetch_model` does; returns its manifest."""
    names = {path.name for path in source.iterdir()}
    files = _copy(names, source.joinpath, directory, check, str(source))
    return {"source": "local", "license": None, "files": files}


def _copy(
    names: Collection[str],
    get: Callable[[str], Path],
    directory: Path,
    check: Callable[[Path], object],
    where: str,
) -> list[dict]:
    """Copies the files of a checkpoint among `names`, of which `get` returns the path, into `directory`.

    Returns name, size and sha256 of each. Files are not linked: DVC makes what it tracks read-only, and an edit of
    config.json would reach the hub's cache. transformers 5 saves tokenizer.json without vocab.json and merges.txt.
    """
    refuse_adapter(names, where)
    weights = weights_file(names, where)
    needed = ["config.json", *(("tokenizer.json",) if "tokenizer.json" in names else VOCABULARY)]
    if missing := [name for name in needed if name not in names]:
        raise InputError(f"{where}: no file {missing[0]}; expected a GPT-2 with its tokenizer")
    shards = shard_names(get(weights)) if weights.endswith(INDEX) else []
    if missing := [name for name in shards if name not in names]:
        raise InputError(f"{where}: no file {missing[0]}, which {weights} lists")
    small = {*needed, *(name for name in (*TOKENIZER, GENERATION_FILE) if name in names)}
    for name in small:
        shutil.copyfile(get(name), directory / name)
    check(directory)
    for name in (weights, *shards):
        shutil.copyfile(get(name), directory / name)
    return [{"file": name, **size_and_hash(directory / name)} for name in sorted({*small, weights, *shards})]
