"""What a repository of the loopback hub holds, and how the hub's API lists it."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

CHUNK = 1 << 16  # bytes


@dataclass(frozen=True)
class File:
    """A file of a repository, with the names that git and Git LFS give to its content."""

    content: bytes | Path
    size: int
    blob_id: str  # git's SHA-1
    sha256: str
    lfs: bool

    @classmethod
    def of(cls, content: bytes | Path, lfs: bool) -> "File":
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        git, sha256 = hashlib.sha1(b"blob %d\0" % size), hashlib.sha256()
        for piece in pieces(content, 0, size):
            git.update(piece)
            sha256.update(piece)
        return cls(content, size, git.hexdigest(), sha256.hexdigest(), lfs)

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.blob_id

    def entry(self, path: str) -> dict:
        """How the API lists the file."""
        lfs = {"lfs": {"oid": self.sha256, "size": self.size, "pointerSize": 134}} if self.lfs else {}
        return {"type": "file", "oid": self.blob_id, "size": self.size, "path": path, **lfs}


def pieces(content: bytes | Path, start: int, stop: int) -> Iterator[bytes]:
    """The bytes from `start` up to `stop`, a chunk at a time."""
    if isinstance(content, bytes):
        for position in range(start, stop, CHUNK):
            yield content[position : min(position + CHUNK, stop)]
        return
    with open(content, "rb") as file:
        file.seek(start)
        for position in range(start, stop, CHUNK):
            yield file.read(min(CHUNK, stop - position))


@dataclass
class Repo:
    """Commits by their hash, and where each branch points."""

    private: bool
    gated: bool
    commits: dict[str, dict[str, File]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)


def folders(files: Mapping[str, File]) -> list[str]:
    """Every folder that holds a file, at any depth."""
    return sorted({"/".join(path.split("/")[:depth]) for path in files for depth in range(1, path.count("/") + 1)})


def entries(files: Mapping[str, File], path: str) -> list[dict]:
    """The API's entry of a file or folder; none if there is neither."""
    if path in files:
        return [files[path].entry(path)]
    return [{"type": "directory", "oid": "0" * 40, "size": 0, "path": path}] if path in folders(files) else []


def listing(files: Mapping[str, File], folder: str, recursive: bool) -> list[dict]:
    """The API's entries below a folder, in the order of their paths; "" is the top."""
    prefix = f"{folder}/" if folder else ""
    below = [path for path in sorted([*files, *folders(files)]) if path.startswith(prefix)]
    return [
        entry for path in below if recursive or "/" not in path.removeprefix(prefix) for entry in entries(files, path)
    ]
