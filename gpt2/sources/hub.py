"""Model files from the Hugging Face hub.

`huggingface_hub` resumes transfers, checks sizes and hashes, retries, and honours HF_HOME, HF_TOKEN, HF_ENDPOINT and
HF_HUB_OFFLINE.
"""

import shutil
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    HTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from gpt2.errors import InputError
from gpt2.files import sha256

MODEL_FILES = [
    "config.json",
    "model.safetensors",
    "vocab.json",
    "merges.txt",
    "tokenizer.json",
    "tokenizer_config.json",
]


def fetch_model(repo: str, revision: str, directory: Path) -> dict:
    """Downloads a GPT-2 checkpoint and its tokenizer into `directory`.

    Returns what was fetched: repo, revision, the commit that the hub resolved it to, and size and sha256 of each file.
    Raises InputError naming the repo when it is missing, gated or cannot be reached.
    """
    try:
        commit = HfApi().model_info(repo, revision=revision).sha
        snapshot_download(repo, revision=commit, allow_patterns=MODEL_FILES, local_dir=directory)
    except GatedRepoError:
        raise InputError(f"data.gpt2.repo = {repo!r}: access is gated; accept its terms and set HF_TOKEN") from None
    except RevisionNotFoundError:
        raise InputError(f"data.gpt2.revision = {revision!r}: no such branch, tag or commit in {repo}") from None
    except (RepositoryNotFoundError, HFValidationError):
        raise InputError(f"data.gpt2.repo = {repo!r}: no such repository (a private one needs HF_TOKEN)") from None
    except OfflineModeIsEnabled:
        raise InputError(f"data.gpt2.repo = {repo!r}: offline mode is on; unset HF_HUB_OFFLINE to download") from None
    except HTTPError as error:
        raise InputError(f"data.gpt2.repo = {repo!r}: the hub cannot be reached ({error}); try again") from None
    shutil.rmtree(directory / ".cache", ignore_errors=True)  # the transfer's own notes
    files = {path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in sorted(directory.iterdir())}
    return {"source": "hub", "repo": repo, "revision": revision, "commit": commit, "files": files}
