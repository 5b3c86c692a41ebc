"""The four data sets, made from two installed packages: their form, and that no evaluation text is in training."""

import re
from collections import Counter

import pyarrow.parquet as pq
import pytest

from gpt2.common.errors import InputError
from gpt2.common.files import read_json, size_and_hash
from gpt2.config.data import ClassificationDataParams, HellaSwagDataParams, InstructionsDataParams
from gpt2.sources.docstrings.classification import classification_rows, excerpt
from gpt2.sources.docstrings.completions import completion_rows
from gpt2.sources.docstrings.corpus import corpus_rows, write_corpus
from gpt2.sources.docstrings.documents import Document, read_documents, write_documents
from gpt2.sources.docstrings.instructions import INSTRUCTION, instruction_rows
from gpt2.sources.docstrings.packages import origin, read_docstrings
from gpt2.sources.docstrings.separation import MIN_WORDS, split_apart

PACKAGES = ("networkx", "nltk")
CLASSIFICATION = ClassificationDataParams(max_train=2000, max_eval=200)
INSTRUCTIONS = InstructionsDataParams(max_train=2000, max_eval=200)


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    return split_apart(read_docstrings(PACKAGES)[0], heldout=0.1)


@pytest.fixture(scope="module")
def completions(documents):
    return completion_rows(documents, HellaSwagDataParams())


@pytest.fixture(scope="module")
def texts(documents, completions) -> dict[str, list[str]]:
    """Every text of every row that the stages would write, by split; completions are from test."""
    found: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for row in corpus_rows(documents):
        found[row["split"]].append(row["text"])
    for split, rows in classification_rows(documents, ClassificationDataParams())[0].items():
        found[split] += [row["text"] for row in rows]
    for split, rows in instruction_rows(documents, InstructionsDataParams()).items():
        found[split] += [text for row in rows for text in (row["input"], row["output"])]
    for row in completions:
        found["test"] += [row["ctx"], *row["endings"]]
    return found


def normalized(text: str) -> list[str]:
    """Runs of ASCII letters and digits, computed without the code under test."""
    return "".join(c if c.isascii() and c.isalnum() else " " for c in text.lower()).split()


@pytest.mark.parametrize(("split", "earlier"), [("val", ["train"]), ("test", ["train", "val"])])
def test_evaluation_text_is_not_in_earlier_splits(texts, split, earlier):
    """Neither 13 consecutive words nor, for shorter texts such as summaries and endings, the whole text."""
    seen = [normalized(text) for other in earlier for text in texts[other]]
    runs = {" ".join(words[i : i + 13]) for words in seen for i in range(len(words) - 12)}
    haystack = "|".join(f" {line} " for line in sorted({" ".join(words) for words in seen}))
    assert len(runs) > 100_000 and len(texts[split]) > 500
    for text in sorted(set(texts[split])):
        words = normalized(text)
        assert words
        if len(words) < 13:
            assert f" {' '.join(words)} " not in haystack, text
        else:
            shared = [run for i in range(len(words) - 12) if (run := " ".join(words[i : i + 13])) in runs]
            assert not shared, text


def test_that_check_sees_a_leak(texts):
    leaky = {**texts, "val": [*texts["val"], texts["train"][0]]}
    with pytest.raises(AssertionError):
        test_evaluation_text_is_not_in_earlier_splits(leaky, "val", ["train"])


def test_documents_are_read_as_they_were_written(documents, tmp_path):
    for directory in (tmp_path / "a", tmp_path / "b"):
        write_documents(directory, documents, origin(PACKAGES), ["nltk.odd"])
        assert read_documents(directory) == (documents, origin(PACKAGES), ["nltk.odd"])
    first, again = (path.read_bytes() for path in sorted(tmp_path.glob("*/*.parquet")))
    assert first == again


def test_corpus_holds_no_test_document(documents, tmp_path):
    rows = corpus_rows(documents)
    by_name = {document.name: document.split for document in documents}
    assert Counter(row["split"] for row in rows).keys() == {"train", "val"}
    assert all(by_name[row["name"]] == row["split"] for row in rows)
    for directory in (tmp_path / "a", tmp_path / "b"):
        write_corpus(directory, rows, origin(PACKAGES), ["nltk.odd"])
    (file,) = (tmp_path / "a").glob("*.parquet")
    assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()
    assert pq.read_table(file).to_pylist() == rows
    manifest = read_json(tmp_path / "a" / "manifest.json")
    assert manifest["packages"].keys() == {"nltk", "networkx"} and all(manifest["packages"].values())
    assert manifest["files"] == [{"file": file.name, **size_and_hash(file), "rows": len(rows)}]
    assert manifest["splits"]["val"]["documents"] == sum(row["split"] == "val" for row in rows)
    assert manifest["skipped"] == ["nltk.odd"]


def test_documents_are_prose(documents):
    letters = sum(c.isalpha() or c == " " for document in documents for c in document.text)
    assert letters > 0.93 * sum(len(document.text) for document in documents)
    assert all(len(document.text.split()) >= MIN_WORDS for document in documents)
    assert not [d.name for d in documents if any(mark in d.text for mark in (">>>", "``", ":param", "::", "\t"))]


def test_classification(documents):
    rows, labels = classification_rows(documents, CLASSIFICATION)
    assert labels == ["networkx", "nltk"]
    assert len(rows["train"]) == 2000 and 100 < len(rows["val"]) <= 200 and 100 < len(rows["test"]) <= 200
    for split in rows:
        counts = Counter(row["label"] for row in rows[split])
        assert max(counts.values()) < 0.75 * len(rows[split]) and counts.keys() == set(labels)
        for row in rows[split]:
            assert 8 <= len(row["text"].split()) <= 100
            assert not any(name in row["text"].lower() for name in ("nltk", "networkx"))
    fewer, _ = classification_rows(documents[::-1], ClassificationDataParams(max_train=50, max_eval=10))
    assert len(fewer["train"]) == 50
    assert {row["text"] for row in fewer["train"]} <= {row["text"] for row in rows["train"]}


def test_no_label_takes_more_than_twice_its_share():
    documents = [
        Document(f"{package}.f{i}", package, split, f"Some words that {package[0]}{i} says to be long enough.", "", "")
        for split in ("train", "val", "test")
        for package, size in (("aaa", 90), ("bbb", 20), ("ccc", 20), ("ddd", 20))
        for i in range(size)
    ]
    rows, _ = classification_rows(documents, ClassificationDataParams(max_train=80, max_eval=40))
    assert Counter(row["label"] for row in rows["train"])["aaa"] <= 40
    assert Counter(row["label"] for row in rows["test"])["aaa"] <= 20
    with pytest.raises(InputError, match=r"^data\.classification\.max_train = 1: leaves one label to learn"):
        classification_rows(documents, ClassificationDataParams(max_train=1))


def test_an_excerpt_stays_clear_of_names(documents):
    names = re.compile(r"numpy|\bnp\b")
    long = " ".join(["One two three four five six seven eight nine ten."] * 12)
    text = f"Notes\n\nThis is numpy.\n\nToo short.\n\nHere np.array is used.\n\n{long}\n\nThe end is near."
    assert excerpt(text, names) == " ".join(["One two three four five six seven eight nine ten."] * 10)
    assert excerpt("It needs numpy to work with eight words or more.", names) == ""


def test_instructions(documents):
    rows = instruction_rows(documents, INSTRUCTIONS)
    assert len(rows["train"]) == 2000 and 100 < len(rows["test"]) <= 200
    outputs = [row["output"] for split in rows for row in rows[split]]
    assert len(set(outputs)) == len(outputs)
    for row in rows["train"]:
        assert row["instruction"] == INSTRUCTION and row["output"] not in row["input"]
        assert row["input"].startswith(("def ", "async def ")) and "\n" in row["input"] and len(row["input"]) <= 300
        assert 3 <= len(row["output"].split()) <= 25 and row["output"].endswith(".") and "\n" not in row["output"]


def test_completions(documents, completions):
    test = {document.name: document for document in documents if document.split == "test"}
    whole = "\n".join(document.text for document in test.values())
    assert [row["ind"] for row in completions] == list(range(len(completions))) and len(completions) > 100
    for row in completions:
        assert (
            row.keys() == {"ind", "activity_label", "ctx_a", "ctx_b", "ctx", "endings", "label", "split"}
            and row["split"] == "val"
        )
        assert len(set(row["endings"])) == 4 and 8 <= len(row["ctx"].split()) <= 90
        assert all(4 <= len(ending.split()) <= 40 for ending in row["endings"])
        true = [i for i, ending in enumerate(row["endings"]) if f"{row['ctx']} {ending}" in whole]
        assert true == [row["label"]]
    places = Counter(row["label"] for row in completions)
    longest = sum(max(row["endings"], key=len) == row["endings"][row["label"]] for row in completions)
    assert min(places.values()) > 0.15 * len(completions) and longest < 0.4 * len(completions)
    fewer = completion_rows(documents, HellaSwagDataParams(max_examples=10))
    assert fewer == completions[:10]


def test_too_little_test_text_for_completions():
    document = Document("a.b", "a", "test", "One sentence of eight words stands here alone. And another one.", "", "")
    with pytest.raises(InputError, match="docstrings.heldout"):
        completion_rows([document], HellaSwagDataParams(max_examples=10))
