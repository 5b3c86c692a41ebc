"""The contents of a corpus directory, the order in which it is read, and how documents are held out."""

import hashlib
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2.common.errors import InputError
from gpt2.tokens.corpus import BATCH_ROWS, Corpus


def write(path, row_group_size=None, **columns):
    """A parquet file."""
    pq.write_table(pa.table(columns), path, row_group_size=row_group_size)


def strings(values: list[bytes]) -> pa.Array:
    """A column of strings with the given bytes, whether they are UTF-8 or not."""
    _, offsets, data = pa.array(values, pa.binary()).buffers()
    return pa.Array.from_buffers(pa.string(), len(values), [None, offsets, data])


def documents(corpus: Corpus) -> list:
    """All documents of all files."""
    return [document for path in corpus.files for document in corpus.documents(path)]


def test_texts_come_in_the_order_of_files_and_rows(tmp_path):
    n = 3 * BATCH_ROWS
    splits = ["val" if i % 7 == 0 else "train" for i in range(n)]
    write(tmp_path / "b.parquet", 100, split=splits, text=[f"b{i}" for i in range(n)], name=["n"] * n)
    write(tmp_path / "a.parquet", text=["a0", "a1", ""], split=["val", "train", "val"])
    corpus = Corpus(tmp_path, 0.1)
    assert corpus.rows == n + 3
    assert [document.text for document in documents(corpus)] == ["a0", "a1", "", *(f"b{i}" for i in range(n))]
    assert list(corpus.texts("val")) == ["a0", *(f"b{i}" for i in range(n) if i % 7 == 0)]
    assert list(corpus.texts("train")) == ["a1", *(f"b{i}" for i in range(n) if i % 7)]


def test_the_split_depends_on_the_text_alone(tmp_path):
    texts = [f"text {i // 2}" for i in range(8000)]
    write(tmp_path / "a.parquet", text=texts)
    write(tmp_path / "b.parquet", text=pa.array(random.Random(0).sample(texts, 8000), pa.large_string()))
    split_of: dict[str, str] = {}
    for document in documents(Corpus(tmp_path, 0.25)):
        assert split_of.setdefault(document.text, document.split) == document.split
        share = int(hashlib.sha256(document.text.encode()).hexdigest()[:16], 16) / 2**64
        assert document.split == ("val" if share < 0.25 else "train")
    held_out = sum(split == "val" for split in split_of.values()) / len(split_of)
    assert abs(held_out - 0.25) < 4 * (0.25 * 0.75 / 4000) ** 0.5


def test_bytes_that_are_not_utf8_are_replaced(tmp_path):
    write(
        tmp_path / "x.parquet", text=strings([b"caf\xe9", "café \0".encode(), b"\xed\xa0\x80", b"", b"caf\xef\xbf\xbd"])
    )
    found = documents(Corpus(tmp_path, 0.1))
    assert [(d.text, d.valid_utf8) for d in found] == [
        ("caf\ufffd", False),
        ("café \0", True),
        ("\ufffd" * 3, False),
        ("", True),
        ("caf\ufffd", True),
    ]
    assert [d.bytes for d in found] == [len(d.text.encode()) for d in found]
    assert found[0].digest == found[4].digest  # the same text after the replacement


def test_groups_of_files_are_in_order_and_large_enough(tmp_path):
    for name in "dbca":
        write(tmp_path / f"{name}.parquet", text=["one", "two"])
    size, corpus = (tmp_path / "a.parquet").stat().st_size, Corpus(tmp_path, 0.1)
    cases = {1: "a b c d", size: "a b c d", size + 1: "ab cd", 2 * size + 1: "abc d", 10**9: "abcd"}
    for least, groups in cases.items():
        assert " ".join("".join(path.stem for path in group) for group in corpus.groups(least)) == groups


@given(
    st.sets(st.text(st.characters(codec="utf-8"), min_size=1), min_size=2, max_size=8),
    st.sampled_from([1e-6, 0.01, 0.49]),
)
def test_a_small_corpus_has_both_splits_in_any_order(tmp_path_factory, texts, heldout):
    splits = []
    for order in (sorted(texts), sorted(texts, reverse=True)):
        directory = tmp_path_factory.mktemp("corpus")
        write(directory / "a.parquet", text=["", *order[:2]])
        write(directory / "b.parquet", text=[*order[2:], order[0]])
        splits.append({d.text: d.split for d in documents(Corpus(directory, heldout)) if d.text})
    assert splits[0] == splits[1]
    assert set(splits[0].values()) == {"train", "val"}
    digests = {text: int(hashlib.sha256(text.encode()).hexdigest()[:16], 16) for text in texts}
    below = {text for text in texts if digests[text] < heldout * 2**64}
    held_out = {text for text, split in splits[0].items() if split == "val"}
    if not below:
        assert held_out == {min(texts, key=digests.get)}
    elif below == texts:
        assert held_out == texts - {max(texts, key=digests.get)}
    else:
        assert held_out == below


@pytest.mark.parametrize("texts", [["one"], ["one", "", "one"], [""]])
def test_one_text_cannot_be_split(tmp_path, texts):
    write(tmp_path / "x.parquet", text=texts)
    with pytest.raises(InputError, match=r"expected two or more different texts, one of them to hold out"):
        Corpus(tmp_path, 0.01)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"body": ["a"], "split": ["val"]}, r"x\.parquet: expected one column text; it has body, split"),
        ({"text": [1], "split": ["val"]}, r"x\.parquet: column text has type int64, expected string"),
        ({"text": ["a"], "split": [1]}, r"x\.parquet: column split has type int64, expected string"),
        ({"text": ["a", None], "split": ["val"] * 2}, r"x\.parquet, row 2: column text is null"),
        ({"text": ["a", None]}, r"x\.parquet, row 2: column text is null"),
        ({"text": ["a"], "split": ["test"]}, r"x\.parquet, row 1: column split is 'test', expected train or val"),
        ({"text": ["a", "b"], "split": ["val", None]}, r"x\.parquet, row 2: column split is None"),
        ({"text": ["a", ""], "split": ["train", "val"]}, r"no row with a text has split 'val'"),
    ],
)
def test_a_malformed_corpus(tmp_path, columns, message):
    write(tmp_path / "x.parquet", **columns)
    with pytest.raises(InputError, match=message):
        list(Corpus(tmp_path, 0.0001).texts("train"))


def test_all_files_have_splits_or_none(tmp_path):
    write(tmp_path / "a.parquet", text=["a"], split=["val"])
    write(tmp_path / "b.parquet", text=["b"])
    with pytest.raises(InputError, match=r"b\.parquet: expected one column split; it has text"):
        Corpus(tmp_path, 0.1)


def test_files_missing_or_damaged(tmp_path):
    with pytest.raises(InputError, match=r"no parquet files"):
        Corpus(tmp_path, 0.1)
    path = tmp_path / "x.parquet"
    write(path, text=["some text"] * 5000, split=["train", "val"] * 2500)
    whole = path.read_bytes()
    path.write_bytes(whole[:500])
    with pytest.raises(InputError, match=r"x\.parquet: not a parquet file"):
        Corpus(tmp_path, 0.1)
    path.write_bytes(whole[:4] + bytes(60) + whole[64:])
    with pytest.raises(InputError, match=r"x\.parquet: damaged after row 0"):
        documents(Corpus(tmp_path, 0.1))
