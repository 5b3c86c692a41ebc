"""Files are written whole or not at all, and errors name the file and the row."""

import errno
import shutil
from types import SimpleNamespace

import pytest

from gpt2.common.errors import InputError
from gpt2.common.files import read_csv, read_json, read_jsonl, replacing, write_csv, write_json, write_jsonl


@pytest.mark.parametrize("error", [KeyboardInterrupt, KeyError])
def test_an_interrupted_write_keeps_the_old_file_and_leaves_no_other(tmp_path, error):
    path = tmp_path / "state.json"
    write_json(path, {"step": 1})
    with pytest.raises(error), replacing(path) as temporary:
        temporary.write_text("half a fi")
        raise error
    assert read_json(path) == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("free", "message"),
    [
        (0, "unexpected pos 576 vs 534"),  # torch.save
        (10**9, "I/O error: No space left on device (os error 28)"),  # safetensors, which deletes its file
    ],
)
def test_a_full_disk_raises_an_error_that_names_the_file(tmp_path, monkeypatch, free, message):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    with pytest.raises(OSError) as raised, replacing(tmp_path / "model.pt"):
        raise RuntimeError(message)
    assert raised.value.errno == errno.ENOSPC and raised.value.filename == str(tmp_path / "model.pt")
    assert not list(tmp_path.iterdir())


def test_json_lines_survive_hostile_text(tmp_path):
    rows = [{"text": "a\u2028b\n\r\x00\u202e</script>😀", "n": 1}, {"text": ""}]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    assert read_jsonl(tmp_path / "rows.jsonl") == rows


@pytest.mark.parametrize(
    ("line", "words"), [("{", "line 2: not valid JSON"), ("[1]", "line 2: expected a JSON object")]
)
def test_an_error_names_the_line(tmp_path, line, words):
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"a": 1}}\n{line}\n')
    with pytest.raises(InputError, match=words):
        read_jsonl(path)


@pytest.mark.parametrize("read", [read_json, read_jsonl, read_csv])
def test_an_error_names_a_missing_file(tmp_path, read):
    with pytest.raises(InputError, match="nowhere: no such file"):
        read(tmp_path / "nowhere")


def test_csv_has_stable_bytes_and_short_floats(tmp_path):
    path = tmp_path / "curve.csv"
    for _ in range(2):
        write_csv(path, [{"step": 0, "loss": 8.31776611}, {"step": 1, "loss": 1e-7}])
        assert path.read_bytes() == b"step,loss\n0,8.31777\n1,1e-07\n"


@pytest.mark.parametrize(
    ("content", "words"), [(b"a,b\n", "at least one row"), (b"a,b\n1\n", "row 2"), (b"a\n\xff\n", "not UTF-8")]
)
def test_an_error_names_a_malformed_csv(tmp_path, content, words):
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"rows.csv.*{words}"):
        read_csv(path)
