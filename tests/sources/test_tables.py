"""Tables: every format gives the same rows, and what is malformed ends in one line with its place."""

import csv
import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2.common.errors import InputError
from gpt2.sources.tables import SUFFIXES, Table, label_names

ROWS = [
    {"text": "It is fine.", "label": "1"},
    {"text": 'A "quote", and a comma', "label": "0"},
    {"text": "« é 😀 \0 »", "label": "-1"},
    {"text": "", "label": "x"},
]


def write(path, rows: list[dict]) -> None:
    """The rows in the format that the suffix names; a .json is an array."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".tsv":
        path.write_text("".join("\t".join(row) + "\n" for row in [rows[0], *(row.values() for row in rows)]))
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        path.write_text(json.dumps(rows, indent=2, ensure_ascii=False))


def read(path, columns=("text", "label"), **options) -> list[dict]:
    return [row for _, row in Table(path, path.name, **options).rows(columns)]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_gives_the_same_rows(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write(path, [{"more": "m", **row} for row in ROWS])
    assert read(path) == ROWS
    table = Table(path, "folder/a")
    assert list(table.rows(["label"], ["none", "more"]))[1][1] == {"label": "0", "more": "m"}
    place = {".parquet": "row 1", ".json": "row 1", ".jsonl": "line 2"}.get(suffix, "line 3")
    assert [place for place, _ in table.rows(["text"])][1] == f"folder/a, {place}"
    if suffix != ".parquet":
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
        assert read(path) == ROWS


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=5))
def test_any_text_survives_csv_and_json_lines(tmp_path_factory, texts):
    for name in ("a.csv", "a.jsonl"):
        path = tmp_path_factory.getbasetemp() / name
        rows = [{"text": text, "label": "x"} for text in texts]
        write(path, rows)
        assert read(path) == rows


def test_numbers_stay_numbers_and_lists_lists(tmp_path):
    rows = [{"text": None, "label": 3}, {"text": ["a", "b"], "label": 2}]
    write(tmp_path / "a.jsonl", rows)
    assert read(tmp_path / "a.jsonl") == rows
    pd.DataFrame({"text": [["a"], None], "label": [3, 2]}).to_parquet(tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == [{"text": ["a"], "label": 3}, {"text": None, "label": 2}]


def test_a_csv_field_may_hold_lines_and_be_huge(tmp_path):
    long = "x" * 300_000
    (tmp_path / "a.csv").write_text(f'text,label\n"one\ntwo",1\n\n{long},0\n')
    places = list(Table(tmp_path / "a.csv", "a.csv").rows(["text"]))
    assert places == [("a.csv, line 2", {"text": "one\ntwo"}), ("a.csv, line 5", {"text": long})]


def test_json_lines_may_be_called_json(tmp_path):
    (tmp_path / "a.json").write_text('\n{"text": "[a]", "label": 1}\n\n{"label": 2, "text": "b"}')
    assert read(tmp_path / "a.json") == [{"text": "[a]", "label": 1}, {"text": "b", "label": 2}]
    (tmp_path / "a.json").write_text("\n" + " \n" * 5000 + '[{"text": "a", "label": 1}]')
    assert read(tmp_path / "a.json") == [{"text": "a", "label": 1}]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"text", "a.txt: expected a file that ends in one of .parquet, .jsonl, .json, .csv, .tsv"),
        ("a.parquet", b"", "a.parquet: not a parquet file: "),
        ("a.parquet", b"PAR1 and so on PAR1", "a.parquet: not a parquet file: "),
        ("a.csv", b"", "a.csv: empty; expected a header"),
        ("a.tsv", b"\n", "a.tsv: empty; expected a header"),
        ("a.csv", b"text,topic\n", "a.csv: no column 'label'; it has text, topic"),
        ("a.tsv", b"text\tlabel\ttext\n", "a.tsv: 2 columns are called 'text'"),
        ("a.csv", b"text,label\na,1\nb\n", "a.csv, line 3: expected 2 values, as in the header, found 1"),
        ("a.tsv", b"text\tlabel\na\t1\t2\n", "a.tsv, line 2: expected 2 values, as in the header, found 3"),
        ("a.csv", b'text,label\na,1\n"b,2\n', "a.csv, line 3: not valid csv: "),
        ("a.csv", b"text,label\ra,1\rb,2\r", "a.csv, line 1: a carriage return alone; expected lines that end in LF"),
        ("a.tsv", b"text\tlabel\ra\t1\r", "a.tsv, line 1: a carriage return alone; expected lines that end in LF"),
        ("a.csv", b"text,label\na,1\nb\xff,2\n", "a.csv, line 3: not UTF-8"),
        ("a.jsonl", b'{"text": "a", "label": 1}\n{"text": "a"}\n', "a.jsonl, line 2: no column 'label'; it has text"),
        ("a.jsonl", b"{}", "a.jsonl, line 1: no column 'text'; it has none"),
        ("a.jsonl", b'["a"]\n', "a.jsonl, line 1: expected a JSON object, found list"),
        ("a.jsonl", b'\n{"text": \n', "a.jsonl, line 2: not valid JSON: "),
        ("a.jsonl", b"[" * 100_000, "a.jsonl, line 1: not valid JSON: "),
        ("a.jsonl", b'{"text": "\\ud800", "label": 1}', "a.jsonl, line 1: a \\u escape is half of a surrogate pair"),
        ("a.json", b'[{"text": "a", "label": 1}, 2]', "a.json, row 1: expected a JSON object, found int"),
        ("a.json", b'[{"text": "a"', "a.json: not valid JSON: "),
        ("a.json", b'{\n"data": []}', "a.json, line 1: not valid JSON: "),
    ],
)
def test_what_is_malformed_is_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        read(tmp_path / name)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


def test_damaged_parquet(tmp_path):
    path = tmp_path / "a.parquet"
    invalid = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff"))
    pq.write_table(pa.table({"text": invalid, "label": ["x"]}), path)
    with pytest.raises(InputError, match=r"^a.parquet: not UTF-8 at or after row 0$"):
        read(path)
    pq.write_table(pa.table({"text": [str(i) for i in range(9999)], "label": ["x"] * 9999}), path, compression="zstd")
    content = path.read_bytes()
    path.write_bytes(content[:1000] + bytes(5000) + content[6000:])
    with pytest.raises(InputError, match=r"^a.parquet: damaged at or after row \d+: .*$"):
        read(path)


def test_lenient_tables_replace_what_is_not_utf8_and_count_it(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"text,label\na\xff,1\nb,2\n\xc3,3\n")
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "a\xff"}\n{"text": "\\ud83d\\ude00"}\n{"text": "\\ud800b"}\n')
    for name, texts in (("a.csv", ["a\ufffd", "b", "\ufffd"]), ("a.jsonl", ["a\ufffd", "😀", "\ufffd\ufffd\ufffdb"])):
        table = Table(tmp_path / name, name, lenient=True)
        assert [row["text"] for _, row in table.rows(["text"])] == texts and table.replaced == 2


def test_label_names_as_datasets_writes_them(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=["bad", "good"]))
    rows = {"text": ["a", "b"], "label": [1, 0]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "a.parquet")
    table = Table(tmp_path / "a.parquet", "a")
    assert label_names(table, "label") == ["bad", "good"] and label_names(table, "text") is None
    pd.DataFrame(rows).to_parquet(tmp_path / "a.parquet")
    assert label_names(table, "label") is None


@pytest.mark.parametrize(
    "metadata",
    [
        "no JSON",
        "[]",
        '{"info": null}',
        '{"info": {"features": {"label": null}}}',
        '{"info": {"features": {"label": {"_type": "ClassLabel"}}}}',
        '{"info": {"features": {"label": {"_type": "ClassLabel", "names": null}}}}',
    ],
)
def test_metadata_that_do_not_say_what_labels_are_called(tmp_path, metadata):
    table = pa.table({"label": [0]}).replace_schema_metadata({"huggingface": metadata})
    pq.write_table(table, tmp_path / "a.parquet")
    assert label_names(Table(tmp_path / "a.parquet", "a"), "label") is None
