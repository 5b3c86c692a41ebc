"""HellaSwag from tables, in its own schema."""

import json

import pytest

from gpt2.common.errors import InputError
from gpt2.config.data import HellaSwagDataParams
from gpt2.sources.hellaswag import read_completions, table_completions
from tests.sources.test_tables import compress, write


def row(**changes) -> dict:
    return {
        "ind": 24,
        "activity_label": "Roof shingle removal",
        "ctx_a": "A man is sitting on a roof.",
        "ctx_b": "he",
        "ctx": "A man is sitting on a roof. he",
        "endings": ["is one.", "is two.", "is three.", "is four."],
        "source_id": "activitynet~v_-JhWjGDPHMY",
        "split": "val",
        "split_type": "indomain",
        "label": "3",
        **changes,
    }


def read(directory, max_examples=None) -> tuple[list[dict], dict]:
    return read_completions(HellaSwagDataParams(source="local", max_examples=max_examples), directory)


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".json"])
def test_the_label_becomes_a_number_and_other_columns_stay(tmp_path, suffix):
    write(tmp_path / f"a{suffix}", [row(), row(ind=25, label="0")])
    write(tmp_path / f"b{suffix}", [row(ind=26, label="1")] * 5)
    rows, manifest = read(tmp_path, max_examples=4)
    assert rows == [row(label=3), row(ind=25, label=0), *[row(ind=26, label=1)] * 2]
    assert [file["rows"] for file in manifest["files"]] == [2, 2] and manifest["splits"] == {"val": 4}
    assert len(read(tmp_path)[0]) == 7


def test_the_command_and_the_stage_read_the_same_files(tmp_path):
    path = tmp_path / "a.JSONL.gz"
    compress(path, ("\ufeff" + json.dumps(row()) + "\r\n").encode())
    assert read(tmp_path)[0] == table_completions(path, "a") == [row(label=3)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": ""}, "label = '': expected a whole number; a split whose labels are hidden cannot be scored"),
        ({"endings": ["a", "b"]}, "endings = ['a', 'b']: List should have at least 4 items after validation, not 2"),
        ({"ind": "first"}, "ind = 'first': Input should be a valid integer"),
    ],
)
def test_a_malformed_row(tmp_path, changes, message):
    write(tmp_path / "a.jsonl", [row(), row(**changes)])
    with pytest.raises(InputError) as caught:
        read(tmp_path)
    assert str(caught.value) == f"{tmp_path}/a.jsonl, row 2: {message}"


def test_no_rows(tmp_path):
    write(tmp_path / "a.jsonl", [])
    with pytest.raises(InputError, match=r"^data.hellaswag: no examples in .*/a.jsonl$"):
        read(tmp_path)
