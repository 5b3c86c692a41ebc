"""The files that the params of a data set name, on the hub or in its folder in data/local."""

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpt2.common.errors import InputError
from gpt2.common.files import size_and_hash
from gpt2.config.data import CorpusParams, ExamplesParams, HellaSwagDataParams
from gpt2.sources.hub import Repository
from gpt2.sources.tables import SUFFIXES
from gpt2.sources.text import format_of


@dataclass(frozen=True)
class Source:
    """Files in the order in which they are read."""

    origin: Repository | Path  # a repository, or a folder
    paths: list[tuple[str, str]]  # the param that names a file, e.g. train, and its path below the origin
    record: dict  # how the manifest begins
    features: dict  # of a data set on the hub, by column, where its card declares them

    def where(self, path: str) -> str:
        """How messages name a file."""
        return f"{self.origin.name if isinstance(self.origin, Repository) else self.origin.as_posix()}/{path}"

    def files(self) -> Iterator[tuple[str, str, Path]]:
        """Param, path and local file of each. A file on the hub is downloaded when its turn comes."""
        for param, path in self.paths:
            yield param, path, self.origin.download(path) if isinstance(self.origin, Repository) else self.origin / path


def locate(params: CorpusParams | ExamplesParams | HellaSwagDataParams, key: str, directory: Path) -> Source:
    """Finds the files of the section `key`; `directory` is its folder in data/local.

    Raises InputError naming the param that leads to no file.
    """
    files = getattr(params, "files", None)
    splits = {name: value for name in ("train", "val", "test", "split") if (value := getattr(params, name, None))}
    if params.source == "local":
        asked = {name: [value] for name, value in splits.items() if name != "split"} or {"files": files}
        formats = (*SUFFIXES, ".txt") if isinstance(params, CorpusParams) else SUFFIXES
        found = {name: local_files(directory, patterns, f"{key}.{name}", formats) for name, patterns in asked.items()}
        return Source(directory, _flat(found), {"source": "local", "license": None, "selection": asked}, {})
    repository = Repository("dataset", params.repo, f"{key}.repo")
    if files:
        found, features, selection = {"files": repository.matching(files)}, {}, {"files": list(files)}
    else:
        config = getattr(params, "config", None)
        known, features = repository.configuration(config)
        for name, split in splits.items():
            if split not in known:
                raise InputError(f"{key}.{name} = {split!r}: {params.repo} has the splits {', '.join(known)}")
        found, selection = {name: known[split] for name, split in splits.items()}, {"config": config, **splits}
    return Source(repository, _flat(found), {**repository.record(), "selection": selection}, features)


def local_files(
    directory: Path, patterns: Sequence[str] | None, key: str, formats: Sequence[str] = SUFFIXES
) -> list[str]:
    """The files below a folder that paths or globs name, sorted; without patterns, every file of the `formats`.

    A name that exists comes before a glob; `**` descends into folders. Raises InputError naming `key` if there are no
    files, and for a file that DVC would not see change: outside the folder, behind a linked folder, or in another
    repository of DVC.
    """
    root = directory.resolve()
    paths = set()
    for pattern in patterns or ["**"]:
        found = [pattern] if (root / pattern).is_file() else glob.glob(pattern, root_dir=root, recursive=True)
        found = [name for name in found if (root / name).is_file() and (patterns or format_of(Path(name)) in formats)]
        if not found and patterns:
            raise InputError(f"{key} = {pattern!r}: no such file in {directory.as_posix()}")
        if not found:
            raise InputError(f"{directory.as_posix()}: expected a file in it that ends in one of {', '.join(formats)}")
        paths |= {(root / name).parent.resolve() / Path(name).name for name in found}
    for path in paths:
        if not path.is_relative_to(root):
            raise InputError(f"{key}: {path} is outside {directory.as_posix()}, where DVC sees no change; copy it in")
        inner = [parent for parent in path.parents if parent.is_relative_to(root) and (parent / ".dvc").exists()]
        if inner:
            raise InputError(
                f"{key}: {path} is in another repository of DVC, {inner[0]}, where this one sees no change"
            )
    return sorted(path.relative_to(root).as_posix() for path in paths)


def file_record(path: str, file: Path, rows: int) -> dict:
    """The record of a file in a manifest: its path in the source, size, hash, and how many of its rows were read."""
    return {"file": path, **size_and_hash(file), "rows": rows}


def _flat(found: dict[str, list[str]]) -> list[tuple[str, str]]:
    return [(name, path) for name, paths in found.items() for path in paths]
