"""What a corpus directory must hold, and the order in which it is read."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gpt2.corpus import BATCH_ROWS, Corpus
from gpt2.errors import InputError


def write(path, **columns):
    """A parquet file."""
    pq.write_table(pa.table(columns), path)


def test_texts_come_in_the_order_of_files_and_rows(tmp_path):
    n = 3 * BATCH_ROWS
    splits = ["val" if i % 7 == 0 else "train" for i in range(n)]
    write(tmp_path / "b.parquet", split=splits, text=[f"b{i}" for i in range(n)], name=["n"] * n)
    write(tmp_path / "a.parquet", text=["a0", "a1", ""], split=["val", "train", "val"])
    corpus = Corpus(tmp_path)
    assert list(corpus.texts("val")) == ["a0", "", *(f"b{i}" for i in range(n) if i % 7 == 0)]
    assert list(corpus.texts("train")) == ["a1", *(f"b{i}" for i in range(n) if i % 7)]
    batches = list(corpus.batches())
    assert max(len(texts) for _, texts in batches) <= BATCH_ROWS
    assert [text for split, texts in batches if split == "val" for text in texts] == list(corpus.texts("val"))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": ["a"]}, r"x\.parquet: no column split; it has text"),
        ({"body": ["a"], "split": ["val"]}, r"x\.parquet: no column text; it has body, split"),
        ({"text": [1], "split": ["val"]}, r"x\.parquet: column text holds int64, expected string"),
        ({"text": ["a", None], "split": ["val"] * 2}, r"x\.parquet, row 1: column text is null"),
        ({"text": ["a"], "split": ["test"]}, r"x\.parquet, row 0: column split is 'test', expected train or val"),
        ({"text": ["a", "b"], "split": ["val", None]}, r"x\.parquet, row 1: column split is None"),
        ({"text": ["a"], "split": ["train"]}, r"no row has split 'val'"),
    ],
)
def test_a_corpus_that_is_none(tmp_path, columns, message):
    write(tmp_path / "x.parquet", **columns)
    with pytest.raises(InputError, match=message):
        list(Corpus(tmp_path).batches())


def test_files_missing_or_damaged(tmp_path):
    with pytest.raises(InputError, match=r"no parquet files"):
        Corpus(tmp_path)
    path = tmp_path / "x.parquet"
    write(path, text=["some text"] * 5000, split=["train", "val"] * 2500)
    whole = path.read_bytes()
    path.write_bytes(whole[:500])
    with pytest.raises(InputError, match=r"x\.parquet: not a parquet file"):
        Corpus(tmp_path)
    path.write_bytes(whole[:4] + bytes(60) + whole[64:])
    with pytest.raises(InputError, match=r"x\.parquet: damaged after row 0"):
        list(Corpus(tmp_path).batches())
