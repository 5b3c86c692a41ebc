"""Tables: every format gives the same rows, texts stay as they are, and malformed rows are named."""

import bz2
import csv
import gzip
import json
import lzma
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2.common.errors import InputError
from gpt2.sources.tables import SUFFIXES, is_table, label_names, read_rows
from gpt2.sources.text import COMPRESSED

# Texts that a reader could take for numbers, dates, booleans or missing values.
WORDS = [
    "",
    " 1 ",
    *["NA", "007", "1e5", "None", "2024-01-02", "2024-01-02T03", "true", "nan", "null", "NULL", "-", "inf"],
]
ROWS = [
    {"text": 'A "quote", and a comma', "label": "0"},
    {"text": "« é 😀 \0 »", "label": "-1"},
    *({"text": word, "label": word} for word in WORDS),
]


def write(path: Path, rows: list[dict]) -> None:
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
    elif path.suffix.lower() == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        path.write_text(json.dumps(rows, indent=2, ensure_ascii=False))


def compress(path: Path, content: bytes) -> None:
    """Writes a file with the compression that the suffix names, if it names one."""
    codecs = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstd}
    path.write_bytes(codecs.get(path.suffix, bytes)(content))


def zstd(content: bytes) -> bytes:
    return pa.Codec("zstd").compress(content, asbytes=True)


def read(path: Path) -> list[dict]:
    return list(read_rows(path, path.name))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_gives_the_same_rows_and_leaves_texts_alone(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write(path, ROWS)
    assert read(path) == ROWS
    if suffix != ".parquet":
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
        assert read(path) == ROWS
        for codec in COMPRESSED:
            compressed = path.with_name(f"a{suffix.upper()}{codec}")
            compress(compressed, path.read_bytes())
            assert is_table(compressed) and read(compressed) == ROWS


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=5))
def test_any_text_survives_csv_and_json_lines(tmp_path_factory, texts):
    for name in ("a.csv", "a.jsonl"):
        path = tmp_path_factory.getbasetemp() / name
        rows = [{"text": text, "label": "x"} for text in texts]
        write(path, rows)
        assert read(path) == rows


def test_a_csv_field_may_hold_lines_and_be_huge(tmp_path):
    long = "x" * 300_000
    (tmp_path / "a.csv").write_text(f'text,label\n"one\ntwo",1\n\n{long},0\n')
    assert read(tmp_path / "a.csv") == [{"text": "one\ntwo", "label": "1"}, {"text": long, "label": "0"}]


def test_a_csv_may_have_columns_without_a_name(tmp_path):
    (tmp_path / "a.csv").write_text("text,,\na,,\nb,1,2\n")
    assert [row["text"] for row in read(tmp_path / "a.csv")] == ["a", "b"]


def test_json_lines_may_be_called_json(tmp_path):
    (tmp_path / "a.json").write_text('\n{"text": "[a]", "label": 1}\n\n{"label": 2, "text": "b"}')
    assert read(tmp_path / "a.json") == [{"text": "[a]", "label": 1}, {"text": "b", "label": 2}]
    (tmp_path / "a.json").write_text("\n" + " \n" * 5000 + '[{"text": "a", "label": 1}]')
    assert read(tmp_path / "a.json") == [{"text": "a", "label": 1}]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"text", "a.txt: expected a file that ends in one of .parquet, .jsonl, .json, .csv, .tsv"),
        ("a.parquet", b"PAR1 and so on PAR1", "a.parquet: not a parquet file: "),
        ("a.jsonl", None, "a.jsonl: no such file"),
        (
            "a.csv",
            b"text,a,text\nb,1,c\n",
            "a.csv: cannot be read after row 0: 2 columns have the name 'text', expected",
        ),
        ("a.csv", b"text,label\na,1\nb\n", "a.csv: cannot be read after row 1: expected 2 values, as in the header"),
        ("a.csv", b'text,label\na,1\n"b,2\n', "a.csv: cannot be read after row 1: unexpected end of data"),
        (
            "a.csv",
            b"text,label\na,1\nb\xff,2\n",
            "a.csv: cannot be read after row 1: byte 0xff at offset 16 is not UTF-8",
        ),
        ("a.csv.gz", b"text,label\n", "a.csv.gz: cannot be read after row 0: zlib inflate failed"),
        (
            "a.jsonl.xz",
            lzma.compress(b'{"a": 1}\n')[:-4],
            "a.jsonl.xz: cannot be read after row 1: Compressed file ended",
        ),
        ("a.jsonl", b'"a"\n', "a.jsonl, row 1: expected an object, found str"),
        ("a.jsonl", b'\n{"text": \n', "a.jsonl: cannot be read after row 0: Expecting value"),
        ("a.jsonl", b"[" * 100_000, "a.jsonl: cannot be read after row 0: maximum recursion depth"),
        ("a.json", b'[{"text": "a"', "a.json: cannot be read after row 0: "),
    ],
)
def test_an_error_for_a_malformed_table_is_one_line(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        read(tmp_path / name)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


def test_label_names_as_datasets_writes_them(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=["bad", "good"]))
    rows = {"text": ["a", "b"], "label": [1, 0]}
    path = tmp_path / "a.parquet"
    datasets.Dataset.from_dict(rows, features=features).to_parquet(path)
    assert label_names(path, "a", "label") == ["bad", "good"] and label_names(path, "a", "text") is None
    pd.DataFrame(rows).to_parquet(path)
    assert label_names(path, "a", "label") is None
