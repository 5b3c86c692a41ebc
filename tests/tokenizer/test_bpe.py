"""Compares training with a naive version and with Hugging Face's trainer, and the pattern with OpenAI's."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from gpt2.common.errors import InputError
from gpt2.tokenizer.bpe import BYTE_CHARACTERS, BYTES, SPLIT_PATTERN, split_token, train_bpe

# as printed in OpenAI's encoder.py
OPENAI_PATTERN = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
ENGLISH = [function.__doc__ for function in (np.einsum, np.linalg.svd, np.pad, np.unique, np.histogram)]

letters = st.text(alphabet="ab é'1\n", max_size=30)
awkward = st.text(alphabet="a é's1½.\n\r\t\x1c\x85\u00a0\u2028\u3000\u0301١ -")


def naive_bpe(texts: list[str], n_merges: int) -> list[tuple[bytes, bytes]]:
    """Counts all pairs again before each merge."""
    words = [
        [BYTES.index(bytes([b])) for b in word.encode()]
        for text in texts
        for word in regex.findall(OPENAI_PATTERN, text)
    ]
    tokens, merges = list(BYTES), []
    while len(merges) < n_merges:
        counts = Counter(pair for word in words for pair in pairwise(word))
        left, right = min(counts, key=lambda pair: (-counts[pair], pair))
        for word in words:
            i = 0
            while i < len(word) - 1:
                if word[i : i + 2] == [left, right]:
                    word[i : i + 2] = [len(tokens)]
                i += 1
        merges.append((tokens[left], tokens[right]))
        tokens.append(tokens[left] + tokens[right])
    return merges


def most_merges(texts: list[str]) -> int:
    """The number of merges that the texts allow, from the error message."""
    message = r"tokenizer\.vocab_size = 65536: the text supports at most \d+ tokens"
    with pytest.raises(InputError, match=message) as error:
        train_bpe(texts, 65536)
    return int(regex.search(r"at most (\d+) tokens", str(error.value))[1]) - 257


@given(st.lists(letters, max_size=6))
def test_training_equals_the_naive_version(texts):
    n_merges = most_merges(texts)
    merges = train_bpe(texts, 257 + n_merges)
    assert merges == naive_bpe(texts, n_merges)
    assert merges == train_bpe(texts[::-1], 257 + n_merges)


def test_training_equals_hugging_face():
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trained.train_from_iterator(
        ENGLISH, trainers.BpeTrainer(vocab_size=1255, initial_alphabet=alphabet, show_progress=False)
    )
    theirs = sorted(trained.get_vocab(), key=trained.get_vocab().get)
    merges = train_bpe(ENGLISH, 1256)
    ours = [*BYTES, *(left + right for left, right in merges)]
    assert ["".join(BYTE_CHARACTERS[byte] for byte in token) for token in ours] == theirs


def test_bytes_have_gpt2s_ids_and_characters():
    assert BYTES[0] == b"!" and BYTES[220] == b" " and BYTES[198] == b"\n"
    assert BYTE_CHARACTERS[ord(" ")] == "Ġ" and BYTE_CHARACTERS[ord("\n")] == "Ċ" and BYTE_CHARACTERS[ord("a")] == "a"
    assert sorted(BYTES) == [bytes([byte]) for byte in range(256)]
    assert sorted(BYTE_CHARACTERS.values()) == sorted(pre_tokenizers.ByteLevel.alphabet())


@given(st.one_of(st.text(), awkward))
def test_the_pattern_cuts_where_openais_does(text):
    words = regex.findall(SPLIT_PATTERN, text)
    assert words == regex.findall(OPENAI_PATTERN, text)
    assert "".join(words) == text


def test_a_token_splits_into_its_merge():
    merges = train_bpe(ENGLISH, 800)
    ranks = {token: rank for rank, token in enumerate([*BYTES, *(left + right for left, right in merges)])}
    assert len(ranks) == 799  # no two merges make the same token
    assert [tuple(split_token(left + right, ranks)) for left, right in merges] == merges
