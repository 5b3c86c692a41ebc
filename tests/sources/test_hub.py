"""The hub as a source: huggingface_hub and datasets, unmodified, on a loopback hub."""

import errno
import io
import os
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import constants, file_download

from gpt2.common.errors import InputError
from gpt2.sources.hub import Repository
from tests.loopback_hub import MEMBER, STRANGER

CARD = b"""---
configs:
- config_name: plain
  data_files:
  - split: train
    path: plain/train-*.parquet
  - split: validation
    path: plain/held.parquet
- config_name: other
  data_files: other/*.jsonl
dataset_info:
- config_name: plain
  features:
  - name: text
    dtype: string
  - name: label
    dtype:
      class_label:
        names:
          '0': bad
          '1': good
- config_name: other
  features:
  - name: text
    dtype: string
---
"""


def parquet(first: int) -> bytes:
    """Ten rows that count from `first`."""
    file = io.BytesIO()
    pq.write_table(pa.table({"text": [f"row {n}" for n in range(first, first + 10)], "label": [0, 1] * 5}), file)
    return file.getvalue()


LABELED = {
    "README.md": CARD,
    **{f"plain/train-{n}.parquet": parquet(10 * n) for n in range(4)},
    "plain/held.parquet": parquet(100),
    "other/a.jsonl": b'{"text": "a"}\n',
}


def repository(repo: str = "owner/set") -> Repository:
    return Repository("dataset", repo, "data.corpus.repo")


def refusal(act, *arguments) -> str:
    """The line of the InputError."""
    with pytest.raises(InputError) as caught:
        act(*arguments)
    line = str(caught.value)
    assert line.startswith("data.corpus.repo = 'owner/") and "\n" not in line
    return line.partition("': ")[2]


def test_every_file_comes_from_the_commit_that_the_branch_had_at_first(hub):
    first = hub.add("dataset", "owner/set", {"a.txt": b"a", "b.parquet": b"old"})
    found = repository()
    second = hub.add("dataset", "owner/set", {"a.txt": b"a", "b.parquet": b"new"})
    assert found.record() == {
        "source": "hub",
        "repo": "owner/set",
        "revision": "main",
        "commit": first,
        "license": None,
    }
    assert [found.download(path).read_bytes() for path in found.paths] == [b"a", b"old"]
    assert repository().commit == second != first
    assert repository(f"owner/set@{first}").download("b.parquet").read_bytes() == b"old"
    hub.add("dataset", "owner/set", {"a.txt": b"other"}, revision="v2/x")
    assert repository("owner/set@v2/x").download("a.txt").read_bytes() == b"other"


@pytest.mark.parametrize(
    ("head", "license"),
    [
        (b"license: mit", "mit"),
        (b"license: [odc-by, mit]", ["mit", "odc-by"]),
        (b"license: {a: b}", None),
        (b"license: [a", None),
        (b"name: caf\xe9", None),
        (b"", None),
    ],
)
def test_the_record_has_the_license_that_the_card_declares(hub, head, license):
    hub.add("dataset", "owner/set", {"README.md": b"---\n" + head + b"\n---\n", "a.csv": b"a"})
    assert repository().record()["license"] == license
    assert len(hub.downloads("README.md")) == 1


def test_a_configuration_has_the_files_that_datasets_finds(hub):
    hub.add("dataset", "owner/set", LABELED)
    splits, features = repository().configuration("plain")
    assert splits == {
        "train": [f"plain/train-{n}.parquet" for n in range(4)],
        "validation": ["plain/held.parquet"],
    }
    assert features["label"].names == ["bad", "good"]
    assert repository().configuration("other")[0] == {"train": ["other/a.jsonl"]}
    assert refusal(repository().configuration, "small").endswith("Available: ['plain', 'other']")
    assert "pick one among the available configs: ['plain', 'other']" in refusal(repository().configuration, None)
    hub.add("dataset", "owner/bare", {"train.csv": b"a\n", "dev.csv": b"a\n"})
    assert repository("owner/bare").configuration(None) == ({"train": ["train.csv"], "validation": ["dev.csv"]}, {})


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"README.md": b"---\nconfigs: [a\n---\n", "a.csv": b"a"}, "while parsing a flow sequence"),
        ({"README.md": b"---\nname: caf\xe9\n---\n", "a.csv": b"a"}, "can't decode byte 0xe9"),
        ({"set.py": b"import os", "a.csv": b"a"}, "Dataset scripts are no longer supported"),
        ({"a.exe": b"a"}, ""),
    ],
)
def test_a_data_set_that_datasets_cannot_read(hub, files, reason):
    hub.add("dataset", "owner/set", files)
    line = refusal(repository().configuration, None)
    assert line.startswith("`datasets` finds no files for config = None: ") and reason in line


def test_patterns_choose_files_and_a_name_comes_before_a_glob(hub):
    hub.add("dataset", "owner/set", {f"{place}/{n}.csv": b"" for place in ("a", "b/c") for n in (1, 2, "[1]")})
    assert repository().matching(["a/*"]) == ["a/1.csv", "a/2.csv", "a/[1].csv"]
    assert repository().matching(["b*1.csv", "a/[1].csv"]) == ["a/[1].csv", "b/c/1.csv"]
    assert refusal(repository().matching, ["a/*", "a/*.tsv"]) == "no file matches 'a/*.tsv'"


def test_offline_gives_what_online_gave(hub, offline):
    hub.add("dataset", "owner/set", LABELED)
    online = repository()
    expected = online.configuration("plain"), online.download("plain/held.parquet"), online.record()
    asked = len(hub.requests)
    offline()
    cached = repository()
    assert (cached.configuration("plain"), cached.download("plain/held.parquet"), cached.record()) == expected
    missing = f"HF_HUB_OFFLINE is set, and the cache {constants.HF_HUB_CACHE} lacks it; run once online"
    assert refusal(cached.download, "other/a.jsonl") == refusal(repository, "owner/none") == missing
    assert len(hub.requests) == asked


@pytest.mark.parametrize("path", ["a.parquet", "a.txt"])  # SHA-256 and git's hash
def test_a_file_with_the_wrong_hash_is_downloaded_once_more(hub, offline, path):
    hub.add("dataset", "owner/set", {path: b"content"})
    hub.fail(f"*/{path}", "flipped")
    file = repository().download(path)
    assert file.read_bytes() == b"content" and len(hub.downloads(path)) == 2
    file.resolve().write_bytes(b"damaged")
    assert repository().download(path).read_bytes() == b"content"
    file.resolve().write_bytes(b"damaged")
    hub.fail(f"*/{path}", "flipped", times=2)
    assert refusal(repository().download, path).startswith(f"{path} does not have the hash that the hub gives for it, ")
    offline()
    assert refusal(repository().download, path).startswith(f"{path} does not have the hash")


def test_a_cache_without_links_is_compared_too(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_SYMLINKS", True)
    hub.add("dataset", "owner/set", {"a.txt": b"content"})
    assert not repository().download("a.txt").is_symlink()
    hub.fail("*/a.txt", "flipped", times=2)
    repository().download("a.txt").write_bytes(b"damaged")
    assert "does not have the hash" in refusal(repository().download, "a.txt")


def test_a_broken_download_is_resumed(hub):
    content = os.urandom(25_000_000)
    hub.add("dataset", "owner/set", {"a.parquet": content})
    hub.fail("*/a.parquet", "cut", after=22_000_000)
    assert repository().download("a.parquet").read_bytes() == content
    assert [bool(request.range) for request in hub.downloads("a.parquet")] == [False, True]


def test_an_unknown_repository_or_revision_and_one_without_access(hub, monkeypatch):
    hub.add("dataset", "owner/set", LABELED)
    hub.add("dataset", "owner/gated", LABELED, gated=True)
    hub.add("dataset", "owner/private", LABELED, private=True)
    unknown = f"no such dataset at {hub.url}, or it is private and needs HF_TOKEN"
    page = f"{hub.url}/datasets/owner/gated"
    gated = f"access is gated; accept the terms at {page}, then set HF_TOKEN to a token of that account"
    assert refusal(repository, "owner/set@v2") == "no branch, tag or commit 'v2'"
    assert refusal(repository, "owner/set@" + "a" * 40) == f"no branch, tag or commit '{'a' * 40}'"
    for token in ("", STRANGER):
        monkeypatch.setenv("HF_TOKEN", token)
        assert refusal(repository, "owner/none") == refusal(repository, "owner/private") == unknown
        assert refusal(repository, "owner/gated") == gated
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    assert refusal(repository, "owner/set") == f"{hub.url} answered HTTP 401; check HF_TOKEN and HF_ENDPOINT"
    monkeypatch.setenv("HF_TOKEN", MEMBER)
    assert repository("owner/gated").paths == repository("owner/private").paths == sorted(LABELED)


def test_a_hub_that_cannot_be_reached(hub, monkeypatch):
    hub.add("dataset", "owner/set", {"a.txt": b"a"})
    hub.fail("/api/datasets/owner/set/revision/main", 503)
    assert re.match(f"{hub.url} cannot be reached .*503 Service Unavailable", refusal(repository))
    hub.fail("/api/datasets/owner/set/tree/*", 403)
    assert refusal(repository).startswith(f"{hub.url} cannot be reached (")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert refusal(repository, "owner/new") == "http://127.0.0.1:9 cannot be reached ([Errno 111] Connection refused)"


def test_an_error_for_a_full_disk_names_the_cache(hub, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    hub.add("dataset", "owner/set", {"a.txt": b"a"})
    found = repository()
    monkeypatch.setattr(file_download, "http_get", full)
    assert refusal(found.download, "a.txt") == f"the cache {constants.HF_HUB_CACHE}: No space left on device"
