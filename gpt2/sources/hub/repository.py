"""Files of a repository on the Hugging Face hub, at one commit.

They lie in huggingface_hub's cache, in its own layout: other tools find what is fetched here, and the other way round.
huggingface_hub reads HF_HOME, HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE.
"""

import re
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from hashlib import sha256
from os.path import relpath
from pathlib import Path
from typing import Literal, TypeVar

from filelock import FileLock
from huggingface_hub import HfApi, constants, get_cached_repo_tree, hf_hub_url, is_offline_mode
from huggingface_hub.errors import (
    CachedRepoTreeNotFoundError,
    EntryNotFoundError,
    OfflineModeIsEnabled,
    RevisionNotFoundError,
    RevisionResolutionError,
)
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import disable_progress_bars, filter_repo_objects
from pydantic import TypeAdapter

from gpt2.common.errors import InputError
from gpt2.common.files import read_json, write_json, write_text
from gpt2.common.progress import bar
from gpt2.sources.hub.errors import ERRORS, UNUSABLE, StrangeAnswerError, explanation, understanding
from gpt2.sources.hub.transfer import WAIT, RemoteFile, Transfer, pause_aloud, retrying

T = TypeVar("T")


class Repository:
    """A repository on the hub at one commit.

    Every method raises InputError with one line that begins with `key`, the section of params that names the
    repository. What the hub says about a commit never changes: it is kept in the cache, where offline mode finds it.
    """

    def __init__(
        self, kind: Literal["model", "dataset"], name: str, revision: str, key: str, wait: float = WAIT
    ) -> None:
        """Resolves `revision`. wait: seconds before the second of five tries; doubles with each further one."""
        self.kind, self.name, self.revision, self._key, self._wait = kind, name, revision, key, wait
        self._api = HfApi()
        self._known: dict[str, RemoteFile] = {}
        if not _is_ref(revision):
            line = f"{key}.revision = {revision!r}: expected the name of a branch or tag, or a commit"
            raise InputError(line)
        disable_progress_bars()  # huggingface_hub's own: gpt2.common.progress draws the one there is
        with self._explaining():
            folder = repo_folder_name(repo_id=name, repo_type=kind)
            cache = Path(constants.HF_HUB_CACHE).resolve()
            self._storage, self._locks = cache / folder, cache / ".locks" / folder
            self.commit = self._resolve()

    def record(self) -> dict:
        """What a manifest says of the repository."""
        return {"source": "hub", "repo": self.name, "revision": self.revision, "commit": self.commit}

    def matching(self, patterns: Sequence[str]) -> list[str]:
        """The paths that match any of the patterns, sorted; `*` matches across folders too.

        Raises InputError naming a pattern that matches nothing.
        """
        found = set()
        for pattern in patterns:
            fixed = re.split(r"[*?[]", pattern)[0]
            matches = set(filter_repo_objects(self._list(_folder(fixed)), allow_patterns=pattern))
            if not matches:
                raise self._wrong(f"no file at revision {self.revision!r} matches {pattern!r}")
            found |= matches
        return sorted(found)

    def splits(self, config: str | None) -> dict[str, list[str]]:
        """The paths of a configuration's data files by split, as `datasets` finds them.

        Raises InputError naming an unknown configuration and those that there are.
        """

        def ask() -> dict[str, list[str]]:
            prefix = f"hf://datasets/{self.name}@{self.commit}/"
            splits = {str(split): list(urls) for split, urls in self._builder(config).config.data_files.items()}
            for url in (url for urls in splits.values() for url in urls if not url.startswith(prefix)):
                raise self._wrong(f"its data file {url} lies outside the repository")
            return {split: [url.removeprefix(prefix) for url in urls] for split, urls in splits.items()}

        return self._remember(f"splits of {_configuration(config)}", ask, dict[str, list[str]])

    def label_names(self, config: str | None, column: str) -> list[str] | None:
        """What the data set itself calls the labels 0, 1, ... of a column; None if it does not say."""

        def ask() -> list[str] | None:
            names = getattr((self._builder(config).info.features or {}).get(column), "names", None)
            return names and [str(name) for name in names]  # YAML has numbers among them

        return self._remember(f"labels in {column!r} of {_configuration(config)}", ask, list[str] | None)

    def fetch(self, paths: Sequence[str], ahead: int = 4) -> Iterator[Path]:
        """Local files with the contents of `paths`, in their order, verified.

        At most `ahead` are on their way at a time, counting the one that is waited for; a caller that stops early
        stops them. A transfer that was interrupted, by a kill too, goes on where it ended. Raises OSError when the disk
        is full.
        """
        files = [self._find(path) for path in paths]
        stop = threading.Event()
        under_way = deque()
        with (
            bar(total=sum(file.size for file in files), desc=self.name, unit="B", unit_scale=True) as progress,
            ThreadPoolExecutor(ahead) as pool,
        ):
            transfer = Transfer(progress, self._wait, stop)
            try:
                for file in files:
                    under_way.append(pool.submit(self._bring, file, transfer))
                    if len(under_way) == ahead:
                        yield under_way.popleft().result()
                while under_way:
                    yield under_way.popleft().result()
            finally:
                stop.set()
                pool.shutdown(cancel_futures=True)

    def _bring(self, file: RemoteFile, transfer: Transfer) -> Path:
        with self._explaining(file.path):
            return self._place(file, transfer)

    def _place(self, file: RemoteFile, transfer: Transfer) -> Path:
        """Puts a file into the cache: its content under blobs/, and under snapshots/ a link to it."""
        blob = self._storage / "blobs" / file.etag
        pointer = self._storage / "snapshots" / self.commit / file.path
        if pointer.exists() and file.matches(pointer):
            transfer.advance(file.size)
            return pointer
        if is_offline_mode():
            raise self._not_cached(f"{file.path}, or has it damaged")
        if file.size > constants.MAX_HTTP_DOWNLOAD_SIZE:
            raise self._wrong(f"{file.path} is too large for the hub's HTTP; `hf download` can put it into the cache")
        for folder in (blob.parent, pointer.parent, self._locks):
            folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self._locks / f"{file.etag}.lock"):  # the one that huggingface_hub takes
            transfer.fetch(file, hf_hub_url(self.name, file.path, repo_type=self.kind, revision=self.commit), blob)
            if pointer.resolve() != blob.resolve():  # another process may have put it right, and be reading it
                pointer.unlink(missing_ok=True)
                pointer.symlink_to(relpath(blob, pointer.parent))
        return pointer

    def _resolve(self) -> str:
        """The commit of the revision, and a note of it where huggingface_hub would look for it offline."""
        which = {"repo_id": self.name, "repo_type": self.kind, "revision": self.revision}
        if is_offline_mode():
            try:
                return self._api.resolve_revision(**which, local_files_only=True).resolved
            except RevisionResolutionError:
                raise self._not_cached(f"revision {self.revision!r}") from None
        ask = partial(self._api.repo_info, **which, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT)
        with understanding():
            commit = retrying(ask, self._wait, pause_aloud).sha
            if not re.fullmatch(r"[0-9a-f]{40}", commit):
                raise StrangeAnswerError
        note = self._storage / "refs" / self.revision
        if commit != self.revision and not (note.is_file() and note.read_bytes() == commit.encode()):
            with self._locked():
                write_text(note, commit)
        return commit

    def _find(self, path: str) -> RemoteFile:
        if path not in self._known:
            self._list(_folder(path))
        if path not in self._known:
            raise self._wrong(f"no file {path!r} at revision {self.revision!r}")
        return self._known[path]

    def _list(self, folder: str) -> list[str]:
        """The paths below a folder, however deep; "" is the top."""

        def ask() -> list[list]:
            if is_offline_mode():  # huggingface_hub may have listed it
                tree = get_cached_repo_tree(self.name, repo_type=self.kind, revision=self.commit)
            else:
                where = {"path_in_repo": folder or None, "revision": self.commit, "repo_type": self.kind}
                tree = self._api.list_repo_tree(self.name, recursive=True, **where)  # tries again by itself
            try:
                with understanding():
                    files = [file for file in tree if isinstance(file, RepoFile)]
            except EntryNotFoundError:
                return []
            return [[file.path, file.size, file.lfs.sha256 if file.lfs else file.blob_id] for file in files]

        kept = self._remember(f"files in {folder or 'all folders'}", ask, list[tuple[str, int, str]])
        files = [RemoteFile(*file) for file in kept]
        for file in (file for file in files if not file.is_sound):
            raise self._wrong(f"{file.path!r} with the hash {file.etag!r} cannot be put into the cache")
        self._known |= {file.path: file for file in files}
        return [file.path for file in files if not folder or file.path.startswith(f"{folder}/")]

    def _builder(self, config: str | None):
        """The object in which `datasets` holds what it found out about a configuration."""
        if is_offline_mode():
            raise OfflineModeIsEnabled
        import datasets  # takes seconds, and is needed once for a commit

        datasets.disable_progress_bars()
        about = {"path": f"hf://datasets/{self.name}", "revision": self.commit}  # a folder of that name is not meant
        try:
            ask = partial(datasets.load_dataset_builder, name=config, **about)
            return retrying(ask, self._wait, pause_aloud)
        except ERRORS:
            raise
        except (FileNotFoundError, RuntimeError) as error:  # no data files; a script in their place
            self._api.auth_check(self.name, repo_type="dataset")
            raise self._wrong(f"`datasets` finds nothing that it can read: {' '.join(str(error).split())}") from None
        except OSError:
            raise
        except Exception as error:  # the card is anyone's YAML, and `datasets` raises whatever it stumbles over
            names = []
            with suppress(Exception):
                names = datasets.get_dataset_config_names(**about)
            if len(names) > (config is None) and config not in names:
                known = f"expected one of {', '.join(names)}, the configurations of {self.name}"
                raise InputError(f"{self._key}.config = {config!r}: {known}") from None
            reason = str(error).strip().partition("\n")[0][:200]
            raise self._wrong(f"its dataset card cannot be read: {reason}") from None

    def _remember(self, question: str, ask: Callable[[], T], shape: type[T]) -> T:
        """The answer to a question about this commit: from the cache, or else asked and put there."""
        place = self._storage / "answers" / self.commit / f"{sha256(question.encode()).hexdigest()[:16]}.json"
        with self._explaining():
            with suppress(KeyError, TypeError, ValueError):  # not there, or damaged
                return TypeAdapter(shape).validate_python(read_json(place)["answer"])
            try:
                answer = ask()
            except (OfflineModeIsEnabled, CachedRepoTreeNotFoundError):
                raise self._not_cached(f"the {question}") from None
            with understanding():
                answer = TypeAdapter(shape).validate_python(answer)
            with self._locked():
                write_json(place, {"question": question, "answer": answer})
        return answer

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keeps other processes from writing the same small file of the cache."""
        self._locks.mkdir(parents=True, exist_ok=True)
        with FileLock(self._locks / "answers.lock"):
            yield

    @contextmanager
    def _explaining(self, path: str | None = None) -> Iterator[None]:
        """Turns what the libraries raise into InputError. path: of the file that is being asked for."""
        try:
            yield
        except RevisionNotFoundError:
            line = f"{self._key}.revision = {self.revision!r}: no such branch, tag or commit in {self.name}"
            raise InputError(line) from None
        except ERRORS as error:
            raise self._wrong(explanation(error, self.kind, self.name, path)) from None
        except OSError as error:
            if error.errno not in UNUSABLE:
                raise
            raise self._wrong(explanation(error, self.kind, self.name)) from None

    def _wrong(self, line: str) -> InputError:
        return InputError(f"{self._key}.repo = {self.name!r}: {line}")

    def _not_cached(self, what: str) -> InputError:
        return self._wrong(f"HF_HUB_OFFLINE is set, and the cache lacks {what}; run this stage once online")


def _configuration(name: str | None) -> str:
    return "the default configuration" if name is None else f"configuration {name!r}"


def _is_ref(revision: str) -> bool:
    """Whether git would take the name; it becomes a path in the cache."""
    return not re.search(r"[\s\x00-\x1f\x7f\\~^:?*[]", revision) and not {"", ".", ".."} & set(revision.split("/"))


def _folder(path: str) -> str:
    return path.rpartition("/")[0]
