"""Splitting and deduplication on made-up docstrings."""

import pytest

from gpt2.common.errors import InputError
from gpt2.config.data import DocstringsParams
from gpt2.sources.docstrings.documents import split_apart, split_of
from gpt2.sources.docstrings.packages import Docstring
from gpt2.sources.splits import SPLITS, draw

PARAMS = DocstringsParams(packages=["made_up"], min_words=5, heldout=0.2)
NAMES = [f"made_up.f{i}" for i in range(200)]
TRAIN, VAL, TEST = ([name for name in NAMES if split_of(name, PARAMS.heldout) == split] for split in SPLITS)
SHARED = "The quick brown fox jumps over the lazy dog and then it sleeps until noon comes."


def docstring(name: str, *paragraphs: str, code: str = "") -> Docstring:
    return Docstring(name, "made_up", paragraphs, paragraphs[0], code)


def own(number: int) -> str:
    """A paragraph that shares no two words in a row with another number's."""
    return " ".join(f"Word{number}x{i}" for i in range(8)) + "."


def split(*docstrings: Docstring) -> dict:
    """The documents by name, after some more that keep every split from being empty."""
    others = [docstring(names[-1], own(i)) for i, names in enumerate((TRAIN, VAL, TEST))]
    return {document.name: document for document in split_apart([*docstrings, *others], PARAMS)}


def test_shares_of_the_splits():
    drawn = [draw(f"x{i}") for i in range(5000)]
    assert 0 <= min(drawn) < 0.01 and 0.99 < max(drawn) < 1
    splits = [split_of(f"x{i}", 0.05) for i in range(5000)]
    assert abs(splits.count("test") / 5000 - 0.05) < 0.01 and abs(splits.count("val") / 5000 - 0.05) < 0.01


def test_a_repeated_paragraph_is_kept_once_and_in_training():
    documents = split(
        docstring(TEST[0], own(10), SHARED),
        docstring(TRAIN[0], own(11), SHARED, "Notes", own(12)),
        docstring(TRAIN[1], own(13), "Notes", SHARED.upper()),
        docstring(TRAIN[2], own(11)),
    )
    assert documents[TRAIN[0]].text == f"{own(11)}\n\n{SHARED}\n\nNotes\n\n{own(12)}"
    assert documents[TRAIN[1]].text == own(13) and documents[TEST[0]].text == own(10)
    assert TRAIN[2] not in documents


def test_evaluation_loses_the_sentences_that_training_has():
    short = "It is short."
    documents = split(
        docstring(TRAIN[0], f"{own(10)} Here it is short. But long.", code="def f(x): return x"),
        docstring(VAL[0], f"{own(11)} {short} {own(12)}", code="def f(x): return x"),
        docstring(TEST[0], f"{own(13)} And so {SHARED}", code="def g(x): return x"),
        docstring(TRAIN[1], f"{own(14)} But {SHARED}"),
        docstring(TEST[1], f"{own(12)} {own(15)}", "Notes", short),
    )
    assert documents[VAL[0]].text == f"{own(11)}\n\n{own(12)}" and documents[VAL[0]].code == ""
    assert documents[TEST[0]].text == own(13) and documents[TEST[0]].code == "def g(x): return x"
    assert documents[TEST[1]].text == own(15)  # the other sentence is in validation


def test_a_run_that_appears_only_when_a_sentence_between_goes():
    words = SHARED.removesuffix(".").split()
    first, last = f"Zero {' '.join(words[:8])}.", f"{' '.join(words[8:])} nil."
    documents = split(
        docstring(TRAIN[0], f"{own(10)} {SHARED} Between it all."),
        docstring(TEST[0], f"{own(11)} {first} Between it all.", last, own(12)),
        docstring(TEST[1], f"{own(13)} {first} Amidst it all.", last, own(14)),
    )
    assert documents[TEST[0]].text == f"{own(11)}\n\n{own(12)}"
    assert documents[TEST[1]].text == f"{own(13)} {first} Amidst it all.\n\n{own(14)}"  # the last was said before


def test_a_summary_that_training_has_is_not_used():
    documents = split(docstring(TRAIN[0], own(10), "Return a value."), docstring(TEST[0], "Return a value.", own(11)))
    assert documents[TEST[0]].summary == "" and documents[TEST[0]].text == own(11)


def test_a_split_without_documents_is_refused():
    with pytest.raises(InputError, match="docstrings.heldout = 0.2, min_words = 5: leave no document in val"):
        split_apart([docstring(TRAIN[0], own(1)), docstring(TEST[0], own(2))], PARAMS)
