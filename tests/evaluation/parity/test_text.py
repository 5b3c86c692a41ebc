"""Token ids of hostile texts."""

from gpt2.evaluation.parity.text import HOSTILE_TEXTS, tokenizer_case
from gpt2.tokenizer.bpe import train_bpe
from gpt2.tokenizer.tokenizer import Tokenizer
from tests.evaluation.parity.conftest import TEXT


def test_the_same_vocabulary_passes_and_another_does_not(directory, tmp_path_factory):
    assert tokenizer_case("small", directory).passed
    other = tmp_path_factory.mktemp("other")
    Tokenizer(train_bpe([TEXT[::-1]], 270)).save(other)
    for name in ("vocab.json", "merges.txt"):  # what ours reads; transformers reads tokenizer.json
        (directory / name).write_bytes((other / name).read_bytes())
    case = tokenizer_case("small", directory)
    assert not case.passed
    assert case.compared == len(HOSTILE_TEXTS)
