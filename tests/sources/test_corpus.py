"""The corpus from tables: what is copied, what is rewritten, where it is cut."""

import errno
import os
import shutil

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2.common.errors import InputError
from gpt2.common.files import read_json, sha256
from gpt2.sources.corpus import ROW_GROUP_BYTES, Budget, write_parts
from tests.sources.sections import section
from tests.sources.test_tables import write

ROWS = [{"text": f"Text {i}. " * (i % 7), "url": f"u{i}", "token_count": 3 * (i % 7)} for i in range(600)]
FORMATS = [".parquet", ".jsonl", ".json", ".csv", ".tsv"]


@pytest.fixture
def convert(tmp_path):
    """Runs the source on files of `folder`; gives the manifest and the tables of the parts."""
    folder = tmp_path / "corpus"
    folder.mkdir()

    def run(**changes) -> tuple[dict, list[pa.Table]]:
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        out.mkdir()
        write_parts(section("corpus", source="local", **{"local__files": "**", **changes}), folder, out)
        manifest = read_json(out / "manifest.json")
        names = sorted(path.name for path in out.glob("*.parquet"))
        assert names == [file["part"] for file in manifest["files"] if "part" in file]
        assert manifest["rows"] == sum(file["rows"] for file in manifest["files"])
        assert sorted(path.name for path in out.iterdir()) == ["manifest.json", *names]
        return manifest, [pq.read_table(out / name) for name in names]

    run.folder = folder
    return run


def texts(tables: list[pa.Table]) -> list[str]:
    return [text for table in tables for text in table["text"].to_pylist()]


def test_parquet_with_texts_in_place_is_copied_byte_for_byte(convert, tmp_path):
    (convert.folder / "deep").mkdir()
    for name in ("b.parquet", "deep/a.parquet"):
        write(convert.folder / name, ROWS)
    manifest, tables = convert()
    assert [file["file"] for file in manifest["files"]] == ["b.parquet", "deep/a.parquet"]
    for number, file in enumerate(manifest["files"]):
        source, part = convert.folder / file["file"], tmp_path / "out1" / f"part_0000{number}.parquet"
        assert source.read_bytes() == part.read_bytes() and file["sha256"] == sha256(part)
        assert source.stat().st_ino != part.stat().st_ino and file["bytes"] == part.stat().st_size
    assert len(tables) == 2 and manifest["rows"] == 1200 and manifest["source"] == "local"
    assert convert(max_files=1)[0]["files"] == manifest["files"][:1]


@pytest.mark.parametrize("limits", [{}, {"max_documents": 333}, {"max_tokens": 2000}])
def test_every_format_gives_the_same_texts(convert, limits):
    found = {}
    for suffix in FORMATS:
        write(convert.folder / f"a{suffix}", [{**row, "token_count": str(row["token_count"])} for row in ROWS])
    write(convert.folder / "a.parquet", ROWS)
    for suffix in FORMATS:
        manifest, tables = convert(local__files=f"a{suffix}", **limits)
        found[suffix] = texts(tables)
        assert manifest["rows"] == len(found[suffix]) and tables[0].schema.metadata is None
    assert all(own == found[".parquet"] for own in found.values())
    n = limits.get("max_documents", len(ROWS))
    if "max_tokens" in limits:
        sums = pd.Series([row["token_count"] for row in ROWS]).cumsum()
        n = int((sums <= 2000).sum())
        assert 0 < n < 600 and sums[n] > 2000
    assert found[".csv"] == [row["text"] for row in ROWS[:n]]


def test_a_renamed_column_takes_the_others_along(convert):
    write(convert.folder / "a.parquet", [{"split": "test", **row} for row in ROWS])
    manifest, (table,) = convert()
    assert table.column_names == ["text", "url", "token_count"] and table.to_pylist() == ROWS
    assert manifest["files"][0]["left_out"] == ["split"]
    manifest, (table,) = convert(text_column="url")
    assert table.column_names == ["text", "token_count"] and texts([table]) == [row["url"] for row in ROWS]
    assert manifest["files"][0]["left_out"] == ["split", "text"]


def test_a_limit_may_end_between_files(convert):
    for name in ("a.jsonl", "b.parquet", "c.parquet"):
        write(convert.folder / name, ROWS[:10])
    manifest, tables = convert(max_documents=20)
    assert [file["rows"] for file in manifest["files"]] == [10, 10] and len(tables) == 2
    manifest, tables = convert(max_documents=23)
    assert [len(table) for table in tables] == [10, 10, 3]
    total = sum(row["token_count"] for row in ROWS[:10])
    write(convert.folder / "b.parquet", ROWS[6:10])  # whose first text is longer than the rest of the budget
    manifest, tables = convert(max_tokens=total + 1)
    assert [file["rows"] for file in manifest["files"]] == [10, 0] and len(tables) == 1


@given(st.lists(st.lists(st.integers(0, 9), max_size=6), max_size=6), *[st.none() | st.integers(1, 30)] * 2)
def test_a_budget_takes_the_longest_beginning_that_fits(batches, documents, tokens):
    budget, taken = Budget(documents, tokens), []
    for counts in batches:
        batch = pa.record_batch({"token_count": pa.array(counts, pa.int64())})
        taken += counts[: budget.take(batch)]
        if budget.spent:
            break
    everything = [count for counts in batches for count in counts]
    n = len(everything) if documents is None else min(documents, len(everything))
    while tokens is not None and sum(everything[:n]) > tokens:
        n -= 1
    assert everything[: len(taken)] == taken
    assert len(taken) == n or everything[len(taken) : n] == [0] * (n - len(taken))  # spent: texts of no token are left


def test_what_is_not_utf8_is_replaced_and_counted(convert):
    (convert.folder / "a.jsonl").write_bytes(b'{"text": "a\xff"}\n{"text": "b"}\n')
    manifest, tables = convert()
    assert texts(tables) == ["a\ufffd", "b"] and manifest["files"][0]["replaced"] == 1


@pytest.mark.parametrize("column", ["text", "body"])  # a file that is copied, and one that is rewritten
def test_bytes_that_are_not_utf8_come_through_parquet_as_they_are(convert, column):
    """The reader of the corpus replaces and counts them."""
    invalid = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff"))
    pq.write_table(pa.table({column: invalid}), convert.folder / "a.parquet")
    _, (table,) = convert(text_column=column)
    assert table["text"].cast(pa.binary()).to_pylist() == [b"\xff"]


@pytest.mark.parametrize("column", ["text", "body"])
def test_parquet_is_read_before_it_is_part_of_the_corpus(convert, column):
    path = convert.folder / "a.parquet"
    pq.write_table(pa.table({column: [str(i) for i in range(9999)]}), path)
    content = path.read_bytes()
    path.write_bytes(content[:1000] + bytes(5000) + content[6000:])
    with pytest.raises(InputError, match=r"/a.parquet: damaged at or after row \d+: "):
        convert(text_column=column)


def test_no_column_may_be_there_twice(convert):
    pq.write_table(pa.table([["a"], [1], [2]], names=["text", "n", "n"]), convert.folder / "a.parquet")
    with pytest.raises(InputError, match="/a.parquet: 2 columns are called 'n'$"):
        convert()


def test_a_full_disk_is_that_of_the_part(convert, monkeypatch):
    def full(source, destination):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(source))

    write(convert.folder / "a.parquet", ROWS)
    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*/out1/part_00000.parquet'$"):
        convert()


def test_row_groups_are_bounded(convert, tmp_path):
    """Else whoever reads the part would have to hold all of it."""
    write(convert.folder / "a.jsonl", [{"text": f"{i} " * 10_000} for i in range(1000, 2500)])
    convert()
    metadata = pq.read_metadata(tmp_path / "out1" / "part_00000.parquet")
    sizes = [metadata.row_group(i).num_rows * 50_000 for i in range(metadata.num_row_groups)]
    assert len(sizes) == 3 and max(sizes) < 1.1 * ROW_GROUP_BYTES


@pytest.mark.parametrize(
    ("name", "rows", "changes", "message"),
    [
        ("a.jsonl", [{"text": None}], {}, "{}/a.jsonl, line 1: text = None: expected a text"),
        ("a.jsonl", [{"body": "a"}], {}, "{}/a.jsonl, line 1: no column 'text'; it has body"),
        ("a.parquet", [{"body": "a"}], {}, "{}/a.parquet: no column 'text'; it has body"),
        ("a.parquet", [{"text": 1}], {}, "{}/a.parquet: column 'text' holds int64, expected string"),
        (
            "a.parquet",
            [{"text": "a"}, {"text": None}],
            {},
            "{}/a.parquet, row 1: column 'text' is null, expected a text",
        ),
        (
            "a.parquet",
            [{"body": "a"}, {"body": None}],
            {"text_column": "body"},
            "{}/a.parquet, row 1: column 'body' is null, expected a text",
        ),
        *(
            (
                name,
                rows,
                {"max_tokens": 5},
                f"{{}}/{place}: expected whole numbers below 2**32 in a column 'token_count', by which max_tokens "
                "counts; set max_documents instead",
            )
            for name, place, rows in [
                ("a.parquet", "a.parquet", [{"text": "a"}]),
                ("a.parquet", "a.parquet", [{"text": "a", "token_count": 1}, {"text": "a", "token_count": None}]),
                ("a.parquet", "a.parquet", [{"text": "a", "token_count": -1}]),
                ("a.parquet", "a.parquet", [{"text": "a", "token_count": 2**63 - 1}]),
                ("a.jsonl", "a.jsonl, line 1", [{"text": "a"}]),
                ("a.jsonl", "a.jsonl, line 2", [{"text": "a", "token_count": 1}, {"text": "a", "token_count": 0.5}]),
                ("a.jsonl", "a.jsonl, line 1", [{"text": "a", "token_count": 10**30}]),
                ("a.csv", "a.csv, line 2", [{"text": "a", "token_count": "many"}]),
            ]
        ),
        (
            "a.jsonl",
            [{"text": "a", "token_count": 0}],
            {"max_tokens": 5},
            "data.corpus.max_tokens: column 'token_count' holds nothing but 0; set max_documents instead",
        ),
        (
            "a.jsonl",
            [{"text": "a", "token_count": 6}],
            {"max_tokens": 5},
            "data.corpus: no document that max_tokens = 5 has room for in {}/a.jsonl",
        ),
        ("a.jsonl", [], {}, "data.corpus: no document in {}/a.jsonl"),
        ("a.txt.jsonl", [], {"local__files": "*.txt"}, "data.corpus.local.files = '*.txt': no such file in {}"),
    ],
)
def test_mistakes(convert, name, rows, changes, message):
    write(convert.folder / name, rows)
    with pytest.raises(InputError) as caught:
        convert(**changes)
    assert str(caught.value) == message.format(convert.folder)


@pytest.mark.realdata
def test_wikitext(real_data, tmp_path):
    frame = pd.read_parquet(real_data / "wikitext2" / "valid.parquet")
    params = section("corpus", source="local", local__files="*.parquet")
    write_parts(params, real_data / "wikitext2", tmp_path)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "part_00000.parquet"), frame)
    assert read_json(tmp_path / "manifest.json")["rows"] == len(frame) == 60
    write_parts(params.model_copy(update={"max_documents": 31}), real_data / "wikitext2", tmp_path)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "part_00000.parquet"), frame[:31])
