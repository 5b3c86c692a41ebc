"""Token ids of hostile texts."""

from gpt2.evaluation.parity.text import HOSTILE_TEXTS, tokenizer_case
from tests.evaluation.parity.conftest import other_tokenizer


def test_the_same_tokenizer_passes_and_another_does_not(directory, monkeypatch):
    assert tokenizer_case("small", directory).passed
    other_tokenizer(monkeypatch)
    case = tokenizer_case("small", directory)
    assert not case.passed
    assert case.compared == len(HOSTILE_TEXTS)
