"""Shared runs of words, against a search through strings."""

from hypothesis import given
from hypothesis import strategies as st

from gpt2.sources.docstrings.overlap import RUN, Phrases, words

TEXT = st.lists(st.sampled_from(["a", "B", "b,", "c. "]), max_size=40).map(" ".join)


def contains(texts: list[str], run: list[str]) -> bool:
    return any(f" {' '.join(run)} " in f" {' '.join(words(text))} " for text in texts)


@given(st.lists(TEXT, max_size=3), st.lists(TEXT, min_size=1, max_size=4))
def test_shared_parts(texts, parts):
    """Few different words, so that runs of 13 are shared now and then."""
    owners = [(word, i) for i, part in enumerate(parts) for word in words(part)]
    expected = set()
    for start in range(len(owners) - RUN + 1):
        run = owners[start : start + RUN]
        if contains(texts, [word for word, _ in run]):
            expected |= {i for _, i in run}
    short = {i for i, part in enumerate(parts) if 0 < len(words(part)) < RUN and contains(texts, words(part))}
    assert Phrases(texts).shared(parts) == expected | short


def test_a_run_of_thirteen_words_may_cross_parts_but_not_texts():
    phrases = Phrases(["one two three four five six seven eight nine ten eleven twelve thirteen.", "Fourteen"])
    middle = "Three, four five (six) seven eight nine ten"
    assert phrases.shared(["zero one two", middle, "eleven twelve thirteen zero", "zero"]) == {0, 1, 2}
    assert phrases.shared(["zero two", f"{middle} zero", "eleven zero"]) == set()
    assert phrases.shared(["zero", middle, "thirteen fourteen"]) == {1}
