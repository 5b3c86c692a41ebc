"""The files that are read from a folder and from a repository: equal files give equal rows."""

import shutil
from pathlib import Path

import pytest

from gpt2.common.errors import InputError
from gpt2.common.files import read_json, sha256
from gpt2.config.data import ClassificationDataParams, CorpusParams
from gpt2.sources.corpus import write_parts
from gpt2.sources.files import local_files
from gpt2.sources.labeled import read_classification
from tests.sources.test_corpus import ROWS
from tests.sources.test_labeled import TEST, TRAIN
from tests.sources.test_tables import compress, write

CARD = b"""---
dataset_info:
  features:
  - name: text
    dtype: string
  - name: label
    dtype:
      class_label:
        names:
          '0': low
          '1': mid
          '2': high
---
"""
NAMES = ["low", "mid", "high"]
NOWHERE = Path("nowhere")


@pytest.fixture
def serve(hub, tmp_path):
    """Writes tables into a folder, and commits them with a card to owner/set."""

    def run(files: dict[str, list[dict]], card: bytes = b"# A data set\n") -> Path:
        for path, rows in files.items():
            (tmp_path / "set" / path).parent.mkdir(parents=True, exist_ok=True)
            write(tmp_path / "set" / path, rows)
        hub.add("dataset", "owner/set", {**{path: tmp_path / "set" / path for path in files}, "README.md": card})
        return tmp_path / "set"

    return run


def without_origin(manifest: dict) -> dict:
    origin = ("source", "repo", "revision", "commit", "selection")
    return {key: value for key, value in manifest.items() if key not in origin}


def test_classification(serve):
    files = {"data/train-00000-of-00001.parquet": TRAIN, "data/validation-00000-of-00001.parquet": TEST}
    folder = serve(files, CARD)
    columns, names = {"text": "text"}, tuple(NAMES)
    hub = ClassificationDataParams(source="hub", repo="owner/set", test="validation", columns=columns)
    train, test = files
    local = ClassificationDataParams(source="local", train=train, test=test, columns=columns, names=names)
    rows, labels, manifest = read_classification(hub, NOWHERE)
    local_rows, local_labels, local_manifest = read_classification(local, folder)
    assert rows == local_rows and labels == local_labels == NAMES
    assert without_origin(manifest) == without_origin(local_manifest)
    assert manifest["commit"] and manifest["repo"] == "owner/set" and manifest["source"] == "hub"
    assert manifest["selection"] == {"config": None, "train": "train", "test": "validation"}
    assert [file["sha256"] for file in manifest["files"]] == [sha256(folder / path) for path in files]
    with pytest.raises(InputError) as caught:
        read_classification(hub.model_copy(update={"val": "dev"}), NOWHERE)
    assert str(caught.value) == "data.classification.val = 'dev': owner/set has the splits train, validation"


@pytest.mark.parametrize(
    ("hub_params", "files", "changes", "read"),
    [
        ({"files": ["data/*", "more.jsonl"]}, None, {}, ["data/0.parquet", "data/1.parquet", "more.jsonl"]),
        ({"config": None}, "data/*", {"text_column": "url"}, ["data/0.parquet", "data/1.parquet"]),
        ({"config": None}, "data/*", {"max_documents": 600}, ["data/0.parquet"]),
    ],
)
def test_corpus(serve, hub, tmp_path, hub_params, files, changes, read):
    """Files beyond a limit are not downloaded."""
    card = b"---\nconfigs:\n- config_name: default\n  data_files: data/*.parquet\n---\n"
    folder = serve({"data/0.parquet": ROWS, "data/1.parquet": ROWS[:9], "more.jsonl": ROWS[:5]}, card)
    for params, out in [
        (CorpusParams(source="local", files=files, **changes), tmp_path / "local"),
        (CorpusParams(source="hub", repo="owner/set", **hub_params, **changes), tmp_path / "hub"),
    ]:
        out.mkdir()
        write_parts(params, folder, out)
    manifest, local_manifest = (read_json(tmp_path / source / "manifest.json") for source in ("hub", "local"))
    assert without_origin(manifest) == without_origin(local_manifest)
    assert [file["file"] for file in manifest["files"]] == read
    for part in (tmp_path / "local").glob("*.parquet"):
        assert part.read_bytes() == (tmp_path / "hub" / part.name).read_bytes()
    assert not any(hub.downloads(path) for path in ("data/1.parquet", "more.jsonl") if path not in read)


def test_plain_text_of_the_hub(hub, tmp_path):
    compress(tmp_path / "a.txt.zst", b"One.\n\nTwo.\n")
    hub.add("dataset", "owner/set", {"deep/a.txt.zst": tmp_path / "a.txt.zst", "README.md": b"# A data set\n"})
    write_parts(CorpusParams(source="hub", repo="owner/set", files="*.zst", documents="paragraph"), NOWHERE, tmp_path)
    assert read_json(tmp_path / "manifest.json")["rows"] == 2


def test_globs_choose_the_files_of_a_folder(tmp_path):
    for name in ("b.csv", "a.csv", "a[1].csv", "deep/c.csv", ".hidden.csv", "d.csv/e", "read.me"):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).touch()

    def find(*patterns: str) -> list[str]:
        return local_files(tmp_path / "set", patterns, "data.corpus.files")

    assert find("*.csv") == ["a.csv", "a[1].csv", "b.csv"]
    assert find("**/*.csv") == find() == ["a.csv", "a[1].csv", "b.csv", "deep/c.csv"]
    assert find("a[1].csv", "./deep/../a[1].csv") == ["a[1].csv"]
    assert find("deep/c.csv", "b*") == ["b.csv", "deep/c.csv"]
    with pytest.raises(InputError, match=r"^data.corpus.files = 'e.csv': no such file in .*/set$"):
        find("e.csv", "b.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"/empty: expected a file in it that ends in one of \.parquet, "):
        local_files(tmp_path / "empty", None, "data.hellaswag.files")


def test_files_that_dvc_does_not_watch_are_refused(tmp_path):
    """DVC hashes the content of a linked file, but enters neither a linked folder nor another repository."""
    for name in ("set/a.csv", "other/b.csv"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    folder = tmp_path / "set"
    (folder / "link.csv").symlink_to(tmp_path / "other" / "b.csv")
    assert local_files(folder, None, "key") == ["a.csv", "link.csv"]
    (folder / "big").symlink_to(tmp_path / "other")
    for pattern in ("big/b.csv", "../other/b.csv", str(tmp_path / "other" / "b.csv"), "**"):
        with pytest.raises(InputError, match=r"^key: .*b.csv is outside .*/set, where DVC sees no change; copy it in"):
            local_files(folder, [pattern], "key")
    (tmp_path / "linked").symlink_to(folder)
    (folder / "big").unlink()
    (folder / "registry" / ".dvc").mkdir(parents=True)
    (folder / "registry" / "deep").mkdir()
    (folder / "registry" / "deep" / "c.csv").touch()
    for patterns in (["registry/deep/c.csv"], None):
        with pytest.raises(InputError, match=r"^key: .*c.csv is in another repository of DVC, .*/registry, where"):
            local_files(folder, patterns, "key")
    shutil.rmtree(folder / "registry")
    assert local_files(tmp_path / "linked", None, "key") == ["a.csv", "link.csv"]
