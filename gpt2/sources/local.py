"""Files of one's own, found as those of a hub repository are."""

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from gpt2.common.errors import InputError


class Folder:
    """The folder that a set's own files lie in."""

    def __init__(self, directory: Path, key: str):
        """`key`: the section of the params that names its files, e.g. data.corpus.local."""
        self.name, self.key = directory.as_posix(), key

    def matching(self, pattern: str, key: str) -> list[str]:
        """The files that a path or glob below the folder names, sorted; `**` goes into folders.

        Raises InputError naming `key`, e.g. train, if there are none, or if the pattern leads out of the folder; and
        for a file whose name is not UTF-8, or that may not be read.
        """
        mistake = f"{self.key}.{key} = {pattern!r}"
        if PurePosixPath(pattern).is_absolute() or ".." in PurePosixPath(pattern).parts:
            raise InputError(f"{mistake}: expected a path or glob below {self.name}")
        found = glob.glob(pattern, root_dir=self.name, recursive=True)
        files = sorted({path for path in found if Path(self.name, path).is_file()})
        if not files:
            raise InputError(f"{mistake}: no such file in {self.name}")
        for path in files:
            if path != path.encode(errors="ignore").decode():
                raise InputError(f"{mistake}: the name of the file {path!a} is not UTF-8")
            if not os.access(Path(self.name, path), os.R_OK):
                raise InputError(f"{self.name}/{path}: may not be read; change its permissions")
        return files

    def fetch(self, paths: Sequence[str], ahead: int) -> Iterator[Path]:
        """They are here already."""
        return (Path(self.name, path) for path in paths)

    def record(self) -> dict:
        """What a manifest begins with."""
        return {"source": "local"}
