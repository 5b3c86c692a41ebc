"""The hub and a folder with the same files give the same rows; only what the manifest says of their origin differs."""

import os
from pathlib import Path

import pytest

from gpt2.common.errors import InputError
from gpt2.common.files import read_json, sha256
from gpt2.sources.corpus import write_parts
from gpt2.sources.hellaswag import read_completions
from gpt2.sources.labelled import read_classification, read_instructions
from gpt2.sources.local import Folder
from tests.sources.sections import section
from tests.sources.test_corpus import ROWS
from tests.sources.test_hellaswag import row as completion
from tests.sources.test_labelled import ALPACA, TEST, TRAIN
from tests.sources.test_tables import write

CARD = """---
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
DRIVER = """
import sys
from pathlib import Path
from gpt2.sources.hellaswag import read_completions
from gpt2.sources.labelled import read_classification, read_instructions
from gpt2.sources.parts import write_parts
from tests.sources.sections import section

def hub(name, **changes):
    return section(name, source="hub", hub__repo=f"owner/{name}", **changes)

NOWHERE = Path("nowhere")
"""
NAMES = ["low", "mid", "high"]


@pytest.fixture
def serve(hub, tmp_path):
    """Writes tables into a folder, and commits them with a README to owner/FOLDER."""

    def run(name: str, files: dict[str, list[dict]], card: str = "# A data set\n") -> Path:
        for path, rows in files.items():
            (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
            write(tmp_path / name / path, rows)
        paths = {path: tmp_path / name / path for path in files}
        hub.add("dataset", f"owner/{name}", {**paths, "README.md": card.encode()})
        return tmp_path / name

    return run


def without_origin(manifest: dict) -> dict:
    return {
        key: value
        for key, value in manifest.items()
        if key not in ("source", "repo", "revision", "commit", "selection")
    }


def test_classification(serve, client):
    files = {"data/train-00000-of-00001.parquet": TRAIN, "data/validation-00000-of-00001.parquet": TEST}
    folder = serve("classification", files, CARD)
    code = "show(read_classification(hub('classification', columns__text='text'), NOWHERE))"
    rows, labels, manifest = client.run(DRIVER + code)
    train, test = files
    params = section(
        "classification", source="local", columns__text="text", names=NAMES, local__train=train, local__test=test
    )
    own_rows, own_labels, own_manifest = read_classification(params, folder)
    assert rows == own_rows and labels == own_labels == NAMES
    assert without_origin(manifest) == without_origin(own_manifest)
    assert manifest["commit"] and manifest["repo"] == "owner/classification" and manifest["source"] == "hub"
    assert manifest["selection"] == {"config": None, "train": "train", "test": "validation"}
    assert [file["sha256"] for file in manifest["files"]] == [sha256(folder / path) for path in files]
    code = "show(refusal(read_classification, hub('classification', columns__text='text', hub__val='dev'), NOWHERE))"
    expected = "data.classification.hub.val = 'dev': owner/classification has the splits train, validation"
    assert client.run(DRIVER + code) == expected


def test_instructions_and_completions(serve, client):
    instructions = serve("instructions", {"alpaca.json": ALPACA})
    completions = serve("hellaswag", {"data/validation-00000-of-00001.parquet": [completion(ind=i) for i in range(5)]})
    code = "show([read_instructions(hub('instructions'), NOWHERE), read_completions(hub('hellaswag'), NOWHERE)])"
    found = client.run(DRIVER + code)
    local = [
        read_instructions(section("instructions", source="local"), instructions),
        read_completions(section("hellaswag", source="local", local__files="data/*"), completions),
    ]
    for (rows, manifest), (own_rows, own_manifest) in zip(found, local, strict=True):
        assert rows == own_rows and without_origin(manifest) == without_origin(own_manifest)


@pytest.mark.parametrize(
    ("asked", "pattern", "changes", "paths"),
    [
        ({"hub__files": ["data/*", "more.jsonl"]}, "**", {}, ["data/0.parquet", "data/1.parquet", "more.jsonl"]),
        ({"hub__config": None}, "data/*", {"text_column": "url"}, ["data/0.parquet", "data/1.parquet"]),
        ({"hub__config": None}, "data/*", {"max_documents": 600}, ["data/0.parquet"]),
        ({"hub__config": None}, "data/*", {"max_files": 1}, ["data/0.parquet"]),
    ],
)
def test_corpus(serve, client, hub, tmp_path, asked, pattern, changes, paths):
    """What a limit leaves no room for is not fetched either."""
    card = "---\nconfigs:\n- config_name: default\n  data_files: data/*.parquet\n---\n"
    folder = serve("corpus", {"data/0.parquet": ROWS, "data/1.parquet": ROWS[:9], "more.jsonl": ROWS[:5]}, card)
    ours, theirs = tmp_path / "local", tmp_path / "hub"
    for out in (ours, theirs):
        out.mkdir()
    write_parts(section("corpus", source="local", local__files=pattern, **changes), folder, ours)
    client.run(DRIVER + f"show(write_parts(hub('corpus', **{asked | changes!r}), NOWHERE, Path({str(theirs)!r})))")
    manifest, own_manifest = read_json(theirs / "manifest.json"), read_json(ours / "manifest.json")
    assert without_origin(manifest) == without_origin(own_manifest)
    assert [file["file"] for file in manifest["files"]] == paths
    for part in ours.glob("*.parquet"):
        assert part.read_bytes() == (theirs / part.name).read_bytes()
    others = {"data/0.parquet", "data/1.parquet", "more.jsonl"} - set(paths)
    assert not [request for request in hub.requests if request.method == "GET" and request.path.endswith((*others,))]


def test_a_folder_holds_what_its_globs_may_name(tmp_path):
    for name in ("b.csv", "a.csv", "deep/c.csv", ".hidden.csv", "d.csv/e"):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).touch()
    folder = Folder(tmp_path / "set", "data.corpus.local")
    assert folder.matching("*.csv", "files") == ["a.csv", "b.csv"]
    assert folder.matching("**/*.csv", "files") == ["a.csv", "b.csv", "deep/c.csv"]
    assert folder.matching("deep/c.csv", "files") == ["deep/c.csv"]
    for pattern in ("../set/a.csv", str(tmp_path / "set" / "a.csv"), "deep/../a.csv"):
        with pytest.raises(InputError, match="^data.corpus.local.files = '.*': expected a path or glob below .*/set$"):
            folder.matching(pattern, "files")
    with pytest.raises(InputError, match="^data.corpus.local.files = 'e.csv': no such file in .*/set$"):
        folder.matching("e.csv", "files")
    Path(os.fsdecode(os.fsencode(tmp_path / "set") + b"/\xe9.csv")).touch()
    with pytest.raises(InputError, match=r"'\*\.csv': the name of the file '\\udce9.csv' is not UTF-8$"):
        folder.matching("*.csv", "files")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    (tmp_path / "a.csv").touch(mode=0)
    with pytest.raises(InputError, match="^.*/a.csv: may not be read; change its permissions$"):
        Folder(tmp_path, "data.corpus.local").matching("*.csv", "files")
