"""Splitting and deduplication on made-up docstrings."""

import pytest

from gpt2.common.errors import InputError
from gpt2.sources.docstrings.packages import Docstring
from gpt2.sources.docstrings.separation import split_apart, split_of
from gpt2.sources.splits import SPLITS, draw

HELDOUT = 0.2
NAMES = [f"made_up.f{i}" for i in range(200)]
TRAIN, VAL, TEST = ([name for name in NAMES if split_of(name, HELDOUT) == split] for split in SPLITS)
SHARED = "The quick brown fox jumps over the lazy dog and then it sleeps until noon comes."


def docstring(name: str, *paragraphs: str, code: str = "") -> Docstring:
    return Docstring(name, "made_up", paragraphs, paragraphs[0], code)


def paragraph(number: int) -> str:
    """A paragraph that shares no word with the paragraph of another number."""
    return " ".join(f"Word{number}x{i}" for i in range(8)) + "."


def split(*docstrings: Docstring) -> dict:
    """The documents by name. Three more keep the splits from being empty."""
    others = [docstring(names[-1], paragraph(i)) for i, names in enumerate((TRAIN, VAL, TEST))]
    return {document.name: document for document in split_apart([*docstrings, *others], HELDOUT)}


def test_shares_of_the_splits():
    drawn = [draw(f"x{i}") for i in range(5000)]
    assert 0 <= min(drawn) < 0.01 and 0.99 < max(drawn) < 1
    splits = [split_of(f"x{i}", 0.05) for i in range(5000)]
    assert abs(splits.count("test") / 5000 - 0.05) < 0.01 and abs(splits.count("val") / 5000 - 0.05) < 0.01


def test_a_repeated_paragraph_is_kept_once_and_in_training():
    documents = split(
        docstring(TEST[0], paragraph(10), SHARED),
        docstring(TRAIN[0], paragraph(11), SHARED, "Notes", paragraph(12)),
        docstring(TRAIN[1], paragraph(13), "Notes", SHARED.upper()),
        docstring(TRAIN[2], paragraph(11)),
    )
    assert documents[TRAIN[0]].text == f"{paragraph(11)}\n\n{SHARED}\n\nNotes\n\n{paragraph(12)}"
    assert documents[TRAIN[1]].text == paragraph(13) and documents[TEST[0]].text == paragraph(10)
    assert TRAIN[2] not in documents


def test_evaluation_loses_the_sentences_that_training_has():
    short = "It is short."
    documents = split(
        docstring(TRAIN[0], f"{paragraph(10)} Here it is short. But long.", code="def f(x): return x"),
        docstring(VAL[0], f"{paragraph(11)} {short} {paragraph(12)}", code="def f(x): return x"),
        docstring(TEST[0], f"{paragraph(13)} And so {SHARED}", code="def g(x): return x"),
        docstring(TRAIN[1], f"{paragraph(14)} But {SHARED}"),
        docstring(TEST[1], f"{paragraph(12)} {paragraph(15)}", "Notes", short),
    )
    assert documents[VAL[0]].text == f"{paragraph(11)}\n\n{paragraph(12)}" and documents[VAL[0]].code == ""
    assert documents[TEST[0]].text == paragraph(13) and documents[TEST[0]].code == "def g(x): return x"
    assert documents[TEST[1]].text == paragraph(15)  # the other sentence is in validation


def test_a_run_that_appears_only_when_a_sentence_between_goes():
    words = SHARED.removesuffix(".").split()
    first, last = f"Zero {' '.join(words[:8])}.", f"{' '.join(words[8:])} nil."
    documents = split(
        docstring(TRAIN[0], f"{paragraph(10)} {SHARED} Between it all."),
        docstring(TEST[0], f"{paragraph(11)} {first} Between it all.", last, paragraph(12)),
        docstring(TEST[1], f"{paragraph(13)} {first} Amidst it all.", last, paragraph(14)),
    )
    assert documents[TEST[0]].text == f"{paragraph(11)}\n\n{paragraph(12)}"
    # TEST[1] loses `last`, which is a paragraph of TEST[0].
    assert documents[TEST[1]].text == f"{paragraph(13)} {first} Amidst it all.\n\n{paragraph(14)}"


def test_a_summary_that_training_has_is_not_used():
    documents = split(
        docstring(TRAIN[0], paragraph(10), "Return a value."), docstring(TEST[0], "Return a value.", paragraph(11))
    )
    assert documents[TEST[0]].summary == "" and documents[TEST[0]].text == paragraph(11)


def test_a_split_without_documents_is_refused():
    with pytest.raises(InputError, match="docstrings.heldout = 0.2: leaves no document in val"):
        split_apart([docstring(TRAIN[0], paragraph(1)), docstring(TEST[0], paragraph(2))], HELDOUT)
