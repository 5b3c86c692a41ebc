"""Files of a repository on the Hugging Face hub, all from one commit.

huggingface_hub downloads them into its cache and reads HF_HOME, HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE. `datasets`
decides which files make up a split, from the data set's card or from the names of the files.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import httpx2
from huggingface_hub import (
    constants,
    get_cached_repo_tree,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    metadata_load,
    snapshot_download,
)
from huggingface_hub.errors import (
    CachedRepoTreeNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from gpt2.common.errors import InputError, first_line
from gpt2.common.files import NO_ROOM

CARD = ("README.md", ".huggingface.yaml", "dataset_infos.json")  # where a data set describes its configurations


class Repository:
    """A repository on the hub, at the commit that its branch or tag points to now, or in the cache when offline.

    Every method raises InputError if the repository, its revision or a file cannot be had, in one line that begins with
    the key and the value of the param.
    """

    def __init__(self, kind: Literal["model", "dataset"], repo: str, key: str):
        """`repo` is owner/name or owner/name@revision, the value of the param `key`."""
        self.name, _, revision = repo.partition("@")
        self.kind, self.revision, self._param = kind, revision or "main", f"{key} = {repo!r}"
        about = {"repo_id": self.name, "repo_type": kind}
        with self._one_line():
            snapshot = snapshot_download(**about, revision=self.revision, allow_patterns=CARD)
            self.commit = Path(snapshot).name
            self.paths = sorted(file.path for file in get_cached_repo_tree(**about, revision=self.commit))

    def record(self) -> dict:
        """How a manifest begins: the repository, the revision that was asked for, its commit and its license."""
        revisions = {"revision": self.revision, "commit": self.commit}
        return {"source": "hub", "repo": self.name, **revisions, "license": self._license()}

    def _license(self) -> str | list[str] | None:
        """The license that the card declares: one or several of the hub's names; None if there is none."""
        if "README.md" not in self.paths:
            return None
        card = self.download("README.md")
        try:
            declared = (metadata_load(card) or {}).get("license")
        except Exception:  # anyone may write a card, and YAML has many errors
            return None
        if isinstance(declared, list) and all(isinstance(name, str) for name in declared):
            return sorted(declared)
        return declared if isinstance(declared, str) else None

    def matching(self, patterns: Sequence[str]) -> list[str]:
        """The paths that are, or match, one of the patterns, sorted; `*` matches across folders.

        Raises InputError naming a pattern that matches nothing.
        """
        found = set()
        for pattern in patterns:
            matches = [path for path in self.paths if path == pattern or fnmatchcase(path, pattern)]
            if not matches:
                raise InputError(f"{self._param}: no file matches {pattern!r}")
            found |= {pattern} if pattern in matches else set(matches)
        return sorted(found)

    def configuration(self, name: str | None) -> tuple[dict[str, list[str]], dict]:
        """The paths of each split of a configuration, and the features that the card declares, by column.

        `datasets` reads the card beside empty files, so that it needs no network. Raises InputError naming the
        configurations that there are.
        """
        import datasets  # takes seconds

        with TemporaryDirectory() as directory:
            folder = Path(directory).resolve() / self.name.partition("/")[2]
            for path in self.paths:
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).touch()
            for path in set(CARD) & set(self.paths):
                shutil.copyfile(self.download(path), folder / path)
            try:
                builder = datasets.load_dataset_builder(str(folder), name, cache_dir=directory)
                splits = {
                    str(split): [Path(file).relative_to(folder).as_posix() for file in files]
                    for split, files in builder.config.data_files.items()
                }
            except Exception as error:  # anyone may write a card, and `datasets` raises whatever it stumbles over
                reason = " ".join(str(error).replace(str(folder), self.name).split())
                raise InputError(f"{self._param}: `datasets` finds no files for config = {name!r}: {reason}") from None
        return splits, dict(builder.info.features or {})

    def download(self, path: str) -> Path:
        """A file of the cache whose content has the hash that the hub gives for it."""
        about = {"repo_id": self.name, "filename": path, "repo_type": self.kind, "revision": self.commit}
        with self._one_line():
            for force in (False, not constants.is_offline_mode()):  # once more where the file is damaged
                file = Path(hf_hub_download(**about, force_download=force))
                if file.is_symlink():  # to a file that huggingface_hub names by the hash
                    expected = Path(os.readlink(file)).name
                else:
                    expected = get_hf_file_metadata(hf_hub_url(**about)).etag
                if hub_hash(file, expected) == expected:
                    return file
        raise InputError(f"{self._param}: {path} does not have the hash that the hub gives for it, {expected}")

    @contextmanager
    def _one_line(self) -> Iterator[None]:
        """Turns what huggingface_hub raises into InputError."""
        hub = constants.ENDPOINT
        try:
            yield
        except RevisionNotFoundError:
            reason = f"no branch, tag or commit {self.revision!r}"
        except GatedRepoError:
            page = f"{hub}/datasets/{self.name}" if self.kind == "dataset" else f"{hub}/{self.name}"
            reason = f"access is gated; accept the terms at {page}, then set HF_TOKEN to a token of that account"
        except RepositoryNotFoundError:
            reason = f"no such {self.kind} at {hub}, or it is private and needs HF_TOKEN"
        except HfHubHTTPError as error:
            reason = f"{hub} answered HTTP {error.response.status_code}; check HF_TOKEN and HF_ENDPOINT"
        except (CachedRepoTreeNotFoundError, LocalEntryNotFoundError, httpx2.HTTPError) as error:
            if constants.is_offline_mode():
                reason = f"HF_HUB_OFFLINE is set, and the cache {constants.HF_HUB_CACHE} lacks it; run once online"
            else:
                reason = f"{hub} cannot be reached ({first_line(error.__cause__ or error)})"
        except json.JSONDecodeError:
            reason = f"{hub} does not answer as a hub does; check HF_ENDPOINT"
        except HFValidationError as error:
            reason = first_line(error)
        except OSError as error:
            if error.errno and error.errno not in NO_ROOM:
                raise
            reason = f"the cache {constants.HF_HUB_CACHE}: {error.strerror or first_line(error)}"
        else:
            return
        raise InputError(f"{self._param}: {reason}")


def hub_hash(file: Path, like: str) -> str:
    """The hash of a file in hex: SHA-256, which the hub has of large files, or git's SHA-1 if `like` is as short."""
    digest = hashlib.sha1(b"blob %d\0" % file.stat().st_size) if len(like) == 40 else hashlib.sha256()
    with open(file, "rb") as content:
        return hashlib.file_digest(content, lambda: digest).hexdigest()
