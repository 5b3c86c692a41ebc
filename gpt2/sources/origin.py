"""The files that a data set's params name, on the hub or in a folder of one's own, as tables."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from gpt2.common.errors import InputError
from gpt2.common.files import size_and_hash
from gpt2.config.data import CorpusHubParams, CorpusParams, ExamplesParams, HellaSwagDataParams
from gpt2.sources.hub.repository import Repository
from gpt2.sources.local import Folder
from gpt2.sources.tables import Table


@dataclass(frozen=True)
class Origin:
    """Files in the order in which they are read."""

    source: Repository | Folder
    paths: list[tuple[str, str]]  # which param names the file, e.g. train, and where it lies in the source
    record: dict  # begins the manifest

    def __str__(self) -> str:
        first, *others = (path for _, path in self.paths)
        return f"{self.source.name}/{first}" + (f" and {len(others)} files more" if others else "")

    def tables(self, ahead: int = 4, lenient: bool = False) -> Iterator[tuple[str, str, Table]]:
        """Param, path and table of each file. At most `ahead` are on their way from the hub at a time.

        Who stops early closes the iterator, lest transfers go on.
        """
        with closing(self.source.fetch([path for _, path in self.paths], ahead)) as fetched:
            for (name, path), file in zip(self.paths, fetched, strict=True):
                yield name, path, Table(file, f"{self.source.name}/{path}", lenient)


def locate(params: CorpusParams | ExamplesParams | HellaSwagDataParams, key: str, directory: Path) -> Origin:
    """Finds the files of the section `key`; `directory` holds those of source local.

    Raises InputError naming the param that leads to no file.
    """
    if params.source == "local":
        folder = Folder(directory, f"{key}.local")
        asked = params.local.model_dump(exclude_none=True)
        found = {name: folder.matching(pattern, name) for name, pattern in asked.items()}
        return Origin(folder, _flat(found), {**folder.record(), "selection": asked})
    hub = params.hub
    repository = Repository("dataset", hub.repo, hub.revision, f"{key}.hub")
    if isinstance(hub, CorpusHubParams) and hub.files:
        asked = {"files": list(hub.files)}
        found = {"files": repository.matching(hub.files)}
    else:
        asked = hub.model_dump(exclude={"repo", "revision", "config", "files"}, exclude_none=True)
        splits = repository.splits(hub.config)
        for name, split in asked.items():
            if split not in splits:
                raise InputError(f"{key}.hub.{name} = {split!r}: {hub.repo} has the splits {', '.join(splits)}")
        asked, found = {"config": hub.config, **asked}, {name: splits[split] for name, split in asked.items()}
    return Origin(repository, _flat(found), {**repository.record(), "selection": asked})


def file_record(path: str, table: Table, rows: int) -> dict:
    """What a manifest says of a file: where it lies in its source, what it holds, how many rows were read of it."""
    return {"file": path, **size_and_hash(table.path), "rows": rows}


def _flat(found: dict[str, list[str]]) -> list[tuple[str, str]]:
    return [(name, path) for name, paths in found.items() for path in paths]
