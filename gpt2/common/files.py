"""Writes files atomically, and reads them with errors that name the file and the row."""

import csv
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gpt2.common.errors import InputError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # a full disk, an exhausted quota, a limit such as `ulimit -f`
FULL = 1 << 20  # bytes: a disk with less free space is full


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`. On success its file is synced to disk and replaces `path`.

    If there is no room, raises OSError with one of NO_ROOM and the name of the file. safetensors raises an error with
    ENOSPC only in its text, and torch and numpy raise others, so any error on a disk without space counts as ENOSPC.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield temporary
        with open(temporary, "rb+") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    except Exception as error:
        code = getattr(error, "errno", None)
        if os.strerror(errno.ENOSPC) in str(error) or shutil.disk_usage(path.parent).free < FULL:
            code = errno.ENOSPC
        if code in NO_ROOM:
            raise OSError(code, os.strerror(code), str(path)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """Yields a temporary directory beside `path`. On success it becomes `path`, and otherwise it is deleted.

    Raises InputError if `path` exists.
    """
    if path.exists():
        raise InputError(f"{path}: exists already; expected the path of a new directory")
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.mkdir(parents=True, exist_ok=True)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 with Unix line endings."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: object) -> None:
    """Writes indented JSON with the keys in the given order."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[dict]) -> None:
    """Writes one JSON object per line."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def write_csv(path: Path, rows: list[dict]) -> None:
    """Writes a header, the keys of the first row, and the rows. Floats have six significant digits."""
    assert rows, f"{path}: a csv needs a header"
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(map(csv_row, rows))


def csv_row(row: dict) -> dict:
    """A row as csv files show it: floats have six significant digits."""
    return {key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()}


def read_json(path: Path):
    """Reads JSON. Raises InputError if the file is missing or malformed."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(f"{path}: no such file") from None
    except (ValueError, RecursionError) as error:  # not UTF-8, malformed, a number too long, brackets too deep
        raise InputError(f"{path}: not valid JSON: {error}") from None


def read_jsonl(path: Path) -> list[dict]:
    """Reads JSON lines. Raises InputError naming the line that is not a JSON object."""
    rows = []
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise InputError(f"{path}, line {number}: not valid JSON: {error}") from None
                if not isinstance(row, dict):
                    raise InputError(f"{path}, line {number}: expected a JSON object, found {type(row).__name__}")
                rows.append(row)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8: {error}") from None
    return rows


def read_csv(path: Path) -> list[dict[str, str]]:
    """Reads the rows below the header of a csv file that a stage wrote; values stay strings."""
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def size_and_hash(path: Path) -> dict:
    """A manifest's entries for a file: `bytes` and `sha256`."""
    return {"bytes": path.stat().st_size, "sha256": sha256(path)}


def sha256(path: Path) -> str:
    """The SHA-256 of a file as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
