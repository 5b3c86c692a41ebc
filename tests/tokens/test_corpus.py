"""The contents of a corpus directory, the order in which it is read, and how documents are held out."""

import hashlib
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2.common.errors import InputError
from gpt2.tokens.corpus import BATCH_ROWS, BLOCK, Corpus, Document


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
    with pytest.raises(
        InputError, match=r"expected two or more different texts, or a text of 16,384 characters or more, to "
    ):
        Corpus(tmp_path, 0.01)


WORDS = ["the", "end", "of", "a", "line", "may", "come", "soon", "or", "late,", "as", "may", "that", "paragraph"]


def book(seed: int, n: int) -> str:
    """A text of n words, in lines and paragraphs."""
    random_ = random.Random(seed)
    return "".join(random_.choice(WORDS) + random_.choice([" "] * 11 + ["\n", "\n\n"]) for _ in range(n))


@pytest.mark.parametrize("heldout", [1e-6, 0.01, 0.2, 0.49])
@pytest.mark.parametrize(
    "text", [book(0, 200_000), "é" * 2 * BLOCK, "word " * BLOCK], ids=["book", "no end of a word", "one line"]
)
def test_blocks_are_held_out_of_a_single_text(tmp_path, text, heldout):
    """They share no text with training, make up the share, and lie all over the text."""
    write(tmp_path / "x.parquet", text=["", text])
    corpus = Corpus(tmp_path, heldout)
    empty, *found = documents(corpus)
    assert corpus.blocks and empty.text == "" and "".join(document.text for document in found) == text
    assert [document.split for document in found] == ["train", "val"] * (len(found) // 2) + ["train"] * (len(found) % 2)
    held_out = [document for document in found if document.split == "val"]
    assert list(corpus.texts("val")) == [document.text for document in held_out]
    assert all(BLOCK / 2 <= len(document.text) <= 2.5 * BLOCK for document in held_out)
    assert all(document == Document.of(document.text, document.split) for document in found)
    share = sum(document.bytes for document in held_out) / len(text.encode())
    blocks = len(text) // BLOCK
    assert share == pytest.approx(max(1, round(heldout * blocks)) / blocks, rel=0.2)
    if " " in text:
        assert all(document.text[-1].isspace() for document in found)
    if "\n" in text:
        assert all(document.text.endswith("\n\n") for document in found[:-1])


def test_an_invalid_text_that_is_cut_is_counted_once(tmp_path):
    write(tmp_path / "x.parquet", text=strings([b"\xff " * BLOCK]))
    assert sum(not document.valid_utf8 for document in documents(Corpus(tmp_path, 0.1))) == 1


@pytest.mark.parametrize(
    ("lengths", "blocks"),
    [
        ([40_000, 10], True),  # one of them alone is no split
        ([40_000, 50_000], True),
        ([40_000] * 60, False),  # 1.7% are held out
        ([40_000] * 12, False),
        ([50] * 5 + [80_000], True),
        ([100] * 5, False),  # too short for blocks
        ([10] * 1001 + [100_000], False),  # many
    ],
)
def test_blocks_are_held_out_of_few_long_texts(tmp_path, lengths, blocks):
    texts = [book(seed, length // 5) for seed, length in enumerate(lengths)]
    write(tmp_path / "x.parquet", text=texts)
    corpus = Corpus(tmp_path, 0.01)
    found = documents(corpus)
    assert corpus.blocks == blocks and {document.split for document in found} == {"train", "val"}
    assert "".join(document.text for document in found) == "".join(texts)
    held_out = sum(document.bytes for document in found if document.split == "val") / sum(map(len, texts))
    assert held_out < 0.3
    short = {document.split for document in found if len(document.text) < BLOCK}
    assert not blocks or short <= {"train"}


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
