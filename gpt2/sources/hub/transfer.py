"""A file from a URL to disk: resumed where it ended, tried again, verified.

`huggingface_hub` starts a file anew when its process was killed; with files of gigabytes that never ends on a poor
line. So bytes are appended to `<name>.part` beside their place, and only a file with the right hash takes its name.
"""

import errno
import hashlib
import os
import re
import shutil
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from time import sleep
from typing import TypeVar

import httpx2
from huggingface_hub import constants, get_session, hf_raise_for_status
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import build_hf_headers, parse_ratelimit_headers
from tqdm import tqdm

T = TypeVar("T")

TRIES = 5  # in a row without progress
WAIT = 1.0  # seconds before the second try; doubles with each further one
LONGEST_WAIT = 300.0  # seconds; whoever asks for more is given up sooner


class DamagedError(Exception):
    """What arrived is not what the hub announced. The message says in what it differs."""


class StoppedError(Exception):
    """The transfer was called off."""


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository."""

    path: str  # in the repository
    size: int  # bytes
    etag: str  # what the hub's cache calls the content: its SHA-256, or git's SHA-1 of a file that is not in LFS

    @property
    def is_sound(self) -> bool:
        """Whether path and etag may become paths in the cache; those of a hostile hub could lead out of it."""
        return (
            not {"", ".", ".."} & set(self.path.split("/"))
            and re.search(r"[\\\x00-\x1f\x7f]", self.path) is None
            and re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", self.etag) is not None
            and self.size >= 0
        )

    def matches(self, local: Path) -> bool:
        """Whether a local file has this content."""
        if local.stat().st_size != self.size:
            return False
        git = hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)
        with open(local, "rb") as file:
            return hashlib.file_digest(file, "sha256" if len(self.etag) == 64 else lambda: git).hexdigest() == self.etag


def retrying(
    attempt: Callable[[], T],
    wait: float,
    pause: Callable[[float, str], object],
    progress: Callable[[], int] = lambda: 0,
) -> T:
    """Calls `attempt` until it succeeds, up to five times in a row without progress; waits longer each time.

    `pause` waits for some seconds, as many as the hub asked for if that is within reason, and is told why. Raises what
    the last attempt raised, and at once what another attempt would not mend.
    """
    failures = 0
    while True:
        before = progress()
        try:
            return attempt()
        except (httpx2.TransportError, HfHubHTTPError, DamagedError) as error:
            failures = 1 if progress() > before else failures + 1
            if failures == TRIES or not _is_transient(error):
                raise
            why = f"HTTP {error.response.status_code}" if isinstance(error, HfHubHTTPError) else type(error).__name__
            pause(min(max(wait * 2 ** (failures - 1), _asked_wait(error)), LONGEST_WAIT), why)


def pause_aloud(seconds: float, why: str) -> None:
    """Waits where no progress bar is drawn, and says so if it takes long."""
    if seconds > 5:
        print(f"the hub: {why}; trying again in {seconds:.0f} s", file=sys.stderr, flush=True)
    sleep(seconds)


def _is_transient(error: Exception) -> bool:
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in (408, 429) or error.response.status_code >= 500
    return not isinstance(error, httpx2.UnsupportedProtocol)


def _asked_wait(error: Exception) -> float:
    """The seconds that an answer asks to wait: the standard's header, or the one in which the hub tells its limits."""
    headers = error.response.headers if isinstance(error, HfHubHTTPError) else {}
    limit = parse_ratelimit_headers(headers)
    if limit is not None and limit.remaining == 0:
        return limit.reset_in_seconds
    asked = headers.get("Retry-After", "")
    return float(asked) if asked.isdigit() else 0.0


@dataclass
class Transfer:
    """The transfers of one call: they share a progress bar, and a way to call them off."""

    bar: tqdm  # counts bytes
    wait: float
    stop: threading.Event

    def fetch(self, file: RemoteFile, url: str, place: Path) -> None:
        """Makes `place` hold the file: verifies one that is there, finishes one that was begun.

        The caller keeps other processes away. Raises what httpx2 and huggingface_hub raise; DamagedError when what
        arrives is wrong each time; OSError with errno ENOSPC and the file's name when the disk is full; StoppedError.
        """
        if place.exists():
            if file.matches(place):
                self.advance(file.size)
                return
            place.unlink()
        part = place.with_name(f"{place.name}.part")
        part.touch()
        if part.stat().st_size > file.size:
            os.truncate(part, 0)
        self.advance(part.stat().st_size)
        for _ in range(TRIES):
            retrying(lambda: self._complete(file, url, part), self.wait, self._pause, lambda: part.stat().st_size)
            if file.matches(part):
                os.replace(part, place)
                return
            self.advance(-part.stat().st_size)
            os.truncate(part, 0)
        raise DamagedError(f"{file.path} arrived {TRIES} times with a length or hash other than the hub's")

    def _complete(self, file: RemoteFile, url: str, part: Path) -> None:
        """Appends what is missing. Raises DamagedError if the answer ends early without saying so."""
        if self.stop.is_set():
            raise StoppedError
        missing = file.size - part.stat().st_size
        if shutil.disk_usage(part.parent).free < missing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(part))
        with open(part, "ab", buffering=0) as output:  # unbuffered: what has arrived survives a kill
            if missing > 0:
                self._append(url, output)
            os.fsync(output.fileno())
        if part.stat().st_size < file.size:
            raise DamagedError(f"{file.path} ends after {part.stat().st_size:,} of {file.size:,} bytes")

    def _append(self, url: str, output: FileIO) -> None:
        position = output.tell()
        headers = {**build_hf_headers(), "Accept-Encoding": "identity"}  # ranges and sizes are of the plain bytes
        if position:
            headers["Range"] = f"bytes={position}-"
        with get_session().stream("GET", url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT) as response:
            hf_raise_for_status(response)
            if position and response.status_code != 206:  # a proxy that knows no ranges sends the whole
                output.truncate(0)
                self.advance(-position)
            for chunk in response.iter_bytes():
                if self.stop.is_set():
                    raise StoppedError
                self._write(chunk, output)

    def _write(self, chunk: bytes, output: FileIO) -> None:
        self.advance(len(chunk))
        try:
            while chunk:
                chunk = chunk[output.write(chunk) :]
        except OSError as error:  # it does not know its file
            raise OSError(error.errno, error.strerror, output.name) from None

    def _pause(self, seconds: float, why: str) -> None:
        with self.bar.get_lock():
            self.bar.set_postfix_str(f"{why}; trying again in {seconds:.0f} s")
        self.stop.wait(seconds)
        with self.bar.get_lock():
            self.bar.set_postfix_str("", refresh=False)

    def advance(self, count: int) -> None:
        """Moves the bar by so many bytes, from any thread."""
        with self.bar.get_lock():
            self.bar.update(count)
