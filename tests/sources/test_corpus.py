"""The corpus from tables: its columns, its limits, and errors."""

import bz2
import gzip
import lzma

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2.common.errors import InputError
from gpt2.common.files import read_json, sha256
from gpt2.config.data import CorpusParams
from gpt2.sources.corpus import Budget, write_parts
from tests.sources.test_tables import WORDS, compress, write

ROWS = [{"text": f"Text {i}. " * (i % 7), "url": f"u{i}", "token_count": 3 * (i % 7)} for i in range(600)]
SUFFIXES = [".parquet", ".jsonl", ".json", ".csv", ".tsv"]


@pytest.fixture
def convert(tmp_path):
    """Reads the files of `folder`; returns the manifest and the tables of the parts."""
    folder = tmp_path / "corpus"
    folder.mkdir()

    def run(**params) -> tuple[dict, list[pa.Table]]:
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        out.mkdir()
        write_parts(CorpusParams(source="local", **params), folder, out)
        manifest = read_json(out / "manifest.json")
        names = sorted(path.name for path in out.glob("*.parquet"))
        assert names == [file["part"] for file in manifest["files"] if "part" in file]
        assert manifest["rows"] == sum(file["rows"] for file in manifest["files"])
        return manifest, [pq.read_table(out / name) for name in names]

    run.folder = folder
    return run


def texts(tables: list[pa.Table]) -> list[str]:
    return [text for table in tables for text in table["text"].to_pylist()]


def test_each_file_becomes_a_part(convert):
    (convert.folder / "deep").mkdir()
    for name in ("b.parquet", "deep/a.csv"):
        write(convert.folder / name, ROWS)
    (convert.folder / "README.md").write_text("a text only if it is named")
    manifest, tables = convert()
    assert [file["file"] for file in manifest["files"]] == ["b.parquet", "deep/a.csv"] and manifest["rows"] == 1200
    assert manifest["source"] == "local" and [len(table) for table in tables] == [600, 600]
    for file in manifest["files"]:
        path = convert.folder / file["file"]
        assert (file["sha256"], file["bytes"]) == (sha256(path), path.stat().st_size)


@pytest.mark.parametrize("limits", [{}, {"max_documents": 333}, {"max_tokens": 2000}])
def test_every_format_gives_the_same_texts(convert, limits):
    rows = [*ROWS, *({"text": word, "url": word, "token_count": 1} for word in WORDS)]
    found = {}
    for suffix in SUFFIXES:
        write(convert.folder / f"a{suffix}", [{**row, "token_count": str(row["token_count"])} for row in rows])
    write(convert.folder / "a.parquet", rows)
    for suffix in SUFFIXES:
        manifest, tables = convert(files=f"a{suffix}", **limits)
        found[suffix] = texts(tables)
        assert manifest["rows"] == len(found[suffix]) and tables[0].schema.metadata is None
    assert all(read == found[".parquet"] for read in found.values())
    n = limits.get("max_documents", len(rows))
    if "max_tokens" in limits:
        sums = np.cumsum([row["token_count"] for row in rows])
        n = int((sums <= 2000).sum())
        assert 0 < n < 600 and sums[n] > 2000
    assert found[".csv"] == [row["text"] for row in rows[:n]]


def test_other_columns_are_kept_except_a_split_and_a_second_text(convert):
    write(convert.folder / "a.parquet", [{"split": "test", **row} for row in ROWS])
    manifest, (table,) = convert()
    assert table.column_names == ["text", "url", "token_count"] and table.to_pylist() == ROWS
    assert manifest["files"][0]["left_out"] == ["split"]
    manifest, (table,) = convert(text_column="url")
    assert table.column_names == ["text", "token_count"] and texts([table]) == [row["url"] for row in ROWS]
    assert manifest["files"][0]["left_out"] == ["split", "text"]


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())])
def test_texts_of_any_arrow_type(convert, kind):
    pq.write_table(pa.table({"text": pa.array(["a", "b", "a"]).cast(kind)}), convert.folder / "a.parquet")
    _, (table,) = convert()
    assert table.schema.field("text").type == pa.string() and texts([table]) == ["a", "b", "a"]


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".json"])
def test_a_missing_text_is_an_empty_one(convert, suffix):
    rows = [{"text": "a", "url": "u"}, {"text": None, "url": "v"}, {"url": "w"}, {"text": "b"}]
    write(convert.folder / f"a{suffix}", rows if suffix == ".parquet" else [*rows[:3], {"text": float("nan")}, rows[3]])
    _, (table,) = convert()
    assert [text for text in texts([table]) if text] == ["a", "b"] and None not in texts([table])


@pytest.mark.parametrize("names", [["text", "text"], ["text", "url", "url"]])
def test_a_column_that_occurs_twice(convert, names):
    columns = [pa.array([name]) for name in "abc"[: len(names)]]
    pq.write_table(pa.Table.from_arrays(columns, names=names), convert.folder / "a.parquet")
    with pytest.raises(InputError, match=rf"a.parquet: 2 columns have the name '{names[-1]}', expected one$"):
        convert()


def test_a_suffix_in_upper_case(convert):
    for name in ("A.PARQUET", "B.Jsonl", "C.CSV"):
        write(convert.folder / name.lower(), ROWS[:3])
        (convert.folder / name.lower()).rename(convert.folder / name)
    manifest, tables = convert()
    assert [file["file"] for file in manifest["files"]] == ["A.PARQUET", "B.Jsonl", "C.CSV"]
    assert texts(tables) == texts(tables[:1]) * 3 == [row["text"] for row in ROWS[:3]] * 3


def test_a_limit_may_end_between_files(convert):
    for name in ("a.jsonl", "b.parquet", "c.parquet"):
        write(convert.folder / name, ROWS[:10])
    manifest, tables = convert(max_documents=20)
    assert [file["rows"] for file in manifest["files"]] == [10, 10] and len(tables) == 2
    manifest, tables = convert(max_documents=23)
    assert [len(table) for table in tables] == [10, 10, 3]
    total = sum(row["token_count"] for row in ROWS[:10])
    write(convert.folder / "b.parquet", ROWS[6:10])  # its first text is longer than the rest of the budget
    manifest, tables = convert(max_tokens=total + 1)
    assert [file["rows"] for file in manifest["files"]] == [10, 0] and len(tables) == 1


@given(st.lists(st.lists(st.integers(0, 9), max_size=6), max_size=6), *[st.none() | st.integers(1, 30)] * 2)
def test_a_budget_takes_the_longest_beginning_that_fits(batches, documents, tokens):
    budget, taken = Budget(documents, tokens), []
    for counts in batches:
        taken += counts[: budget.take(np.array(counts, dtype=np.int64))]
        if budget.spent:
            break
    everything = [count for counts in batches for count in counts]
    n = len(everything) if documents is None else min(documents, len(everything))
    while tokens is not None and sum(everything[:n]) > tokens:
        n -= 1
    assert everything[: len(taken)] == taken
    assert len(taken) == n or everything[len(taken) : n] == [0] * (n - len(taken))  # spent: only empty texts are left


def test_bytes_that_are_not_utf8_stay_unchanged_in_parquet(convert):
    """The reader of the corpus replaces and counts them."""
    invalid = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff"))
    pq.write_table(pa.table({"text": invalid}), convert.folder / "a.parquet")
    _, (table,) = convert()
    assert table["text"].cast(pa.binary()).to_pylist() == [b"\xff"]


def test_damaged_parquet(convert):
    path = convert.folder / "a.parquet"
    pq.write_table(pa.table({"text": [str(i) for i in range(9999)]}), path)
    content = path.read_bytes()
    path.write_bytes(content[:1000] + bytes(5000) + content[6000:])
    with pytest.raises(InputError, match=r"/a.parquet: damaged after row \d+: "):
        convert()
    footer = content[:-1000] + bytes(900) + content[-100:]
    for damaged in (b"PAR1", footer):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"/a.parquet: not a parquet file: "):
            convert()


COUNTS = "max_tokens needs whole numbers in a column 'token_count'; set max_documents instead"


@pytest.mark.parametrize(
    ("name", "rows", "params", "message"),
    [
        ("a.jsonl", [{"text": "a"}, {"text": ["a"]}], {}, "{}/a.jsonl, row 2: text = ['a']: expected a text"),
        ("a.jsonl", [{"body": "a"}, {"url": "a"}], {}, "{}/a.jsonl: no column 'text'; it has body, url"),
        ("a.parquet", [{"text": 1}], {}, "{}/a.parquet: column 'text' holds int64, expected string"),
        ("a.parquet", [{"text": "a", "token_count": None}], {"max_tokens": 5}, "{}/a.parquet: " + COUNTS),
        ("a.parquet", [{"text": "a", "token_count": -1}], {"max_tokens": 5}, "{}/a.parquet: " + COUNTS),
        ("a.csv", [{"text": "a", "token_count": "0.5"}], {"max_tokens": 5}, "{}/a.csv: " + COUNTS),
        (
            "a.jsonl",
            [{"text": "a", "token_count": 6}],
            {"max_tokens": 5},
            "data.corpus: no document within max_tokens = 5 in {}/a.jsonl",
        ),
        ("a.jsonl", [], {}, "data.corpus: no document in {}/a.jsonl"),
        ("a.jsonl", [], {"files": "*.txt"}, "data.corpus.files = '*.txt': no such file in {}"),
        (
            "a.rst",
            [],
            {"files": "a.rst"},
            "{}/a.rst: expected a file that ends in one of .parquet, .jsonl, .json, .csv, .tsv, .txt, .md, or one of "
            "these and .gz, .bz2, .zst, .xz",
        ),
    ],
)
def test_mistakes(convert, name, rows, params, message):
    write(convert.folder / name, rows)
    with pytest.raises(InputError) as caught:
        convert(**params)
    assert str(caught.value) == message.format(convert.folder)


BOOK = "\ufeffOne day,\r\nlong ago.\r\n \r\n\r\n\tTwo « é 😀 »\n\nThree\rand on\n".encode()


@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2", ".xz", ".zst"])
def test_plain_text_is_one_document_or_one_for_each_paragraph(convert, suffix):
    """In every compression, with any ends of lines, with a byte order mark. Files without text are recorded."""
    compress(convert.folder / f"a.TXT{suffix}", BOOK)
    compress(convert.folder / f"b.txt{suffix}", b" \n\t\n")
    compress(convert.folder / f"c.txt{suffix}", b"")
    manifest, (table,) = convert()
    whole = "One day,\nlong ago.\n \n\n\tTwo « é 😀 »\n\nThree\nand on\n"
    assert texts([table]) == [whole] and [file["rows"] for file in manifest["files"]] == [1, 0, 0]
    _, (table,) = convert(documents="paragraph")
    assert texts([table]) == ["One day,\nlong ago.", "\tTwo « é 😀 »", "Three\nand on"]
    _, (table,) = convert(documents="paragraph", max_documents=2, files=f"a.TXT{suffix}")
    assert len(table) == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "na\nïve\n".encode("latin-1"), "cannot be read: byte 0xef at offset 3 is not UTF-8"),
        ("a.txt.gz", gzip.compress(BOOK * 99)[:-9], "cannot be read: Truncated compressed stream"),
        ("a.txt.xz", lzma.compress(BOOK)[:-9], "cannot be read: Compressed file ended before the end-of-stream marker"),
        ("a.txt.zst", BOOK, "cannot be read: ZSTD decompress failed"),
        ("a.jsonl.bz2", bz2.compress(b'{"text": "a"}\n' * 9)[:-9], "cannot be read after row 0: Truncated"),
        ("a.md", b"", None),
        ("a.txt", b" \r\n\t", None),
    ],
)
@pytest.mark.parametrize("documents", ["file", "paragraph"])
def test_text_that_cannot_be_read_is_named_in_one_line(convert, name, content, message, documents):
    (convert.folder / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        convert(files=name, documents=documents)
    path = convert.folder / name
    assert str(caught.value).startswith(f"{path}: {message}" if message else f"data.corpus: no document in {path}")
