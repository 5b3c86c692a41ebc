"""Files: whole or not at all, and errors that name the line."""

import errno
import subprocess
import sys

import pytest

from gpt2.common.errors import InputError
from gpt2.common.files import read_csv, read_json, read_jsonl, replacing, sha256, write_csv, write_json, write_jsonl
from tests.conftest import ROOT


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "state.json"
    write_json(path, {"step": 1})
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        temporary.write_text("half a fi")
        raise KeyboardInterrupt
    assert read_json(path) == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_where_there_is_no_room_the_file_is_named_whoever_writes(tmp_path):
    code = """
import resource, sys
from pathlib import Path
import numpy, torch
from safetensors.torch import save_file
from gpt2.files import replacing
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
tensor, path = torch.zeros(100_000), Path(sys.argv[1], "a")
writers = (lambda: torch.save(tensor, temporary), lambda: save_file({"a": tensor}, temporary))
for write in (*writers, lambda: temporary.write_bytes(b"a")):
    try:
        with replacing(path) as temporary:
            write()
    except OSError as error:
        print(error.errno, error.filename)"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f"{errno.EFBIG} {tmp_path / 'a'}\n" * 2, "")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]  # the byte that there was room for


def test_a_mistake_keeps_its_name_where_there_is_room(tmp_path):
    with pytest.raises(KeyError), replacing(tmp_path / "a") as temporary:
        temporary.write_text("half a fi")
        raise KeyError
    assert not list(tmp_path.iterdir())


def test_json_lines_survive_hostile_text(tmp_path):
    rows = [{"text": "a\u2028b\n\r\x00\u202e</script>😀", "n": 1}, {"text": ""}]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    assert read_jsonl(tmp_path / "rows.jsonl") == rows


@pytest.mark.parametrize(
    ("line", "words"), [("{", "line 2: not valid JSON"), ("[1]", "line 2: expected a JSON object")]
)
def test_a_bad_line_is_named(tmp_path, line, words):
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"a": 1}}\n{line}\n')
    with pytest.raises(InputError, match=words):
        read_jsonl(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere.json: no such file"):
        read_json(tmp_path / "nowhere.json")


def test_csv_bytes_are_stable_and_floats_short(tmp_path):
    path = tmp_path / "curve.csv"
    write_csv(path, [{"step": 0, "loss": 8.31776611}, {"step": 1, "loss": 1e-7}])
    assert path.read_bytes() == b"step,loss\n0,8.31777\n1,1e-07\n"
    first = sha256(path)
    write_csv(path, [{"step": 0, "loss": 8.31776611}, {"step": 1, "loss": 1e-7}])
    assert sha256(path) == first


def test_csv_rows_come_back_as_text(tmp_path):
    rows = [{"name": 'a "quoted", \r\n</script>😀', "loss": 0.5}, {"name": "", "loss": 2.0}]
    write_csv(tmp_path / "rows.csv", rows)
    assert read_csv(tmp_path / "rows.csv") == [{**row, "loss": f"{row['loss']:g}"} for row in rows]


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "no such file"), (b"a,b\n", "at least one row"), (b"a,b\n1\n", "row 2"), (b"a\n\xff\n", "not UTF-8")],
)
def test_a_csv_that_is_missing_or_malformed_is_named(tmp_path, content, words):
    path = tmp_path / "rows.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=f"rows.csv.*{words}"):
        read_csv(path)
