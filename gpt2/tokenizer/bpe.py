"""Byte-pair encoding, trained on bytes (Sennrich et al. 2016; Radford et al. 2019, section 2.2).

Text is first cut into words, their leading space included, by GPT-2's pattern. A word starts as its bytes; then the
most frequent pair of neighbouring tokens is joined to a new token everywhere, again and again. No pair crosses words.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import regex

from gpt2.common.errors import InputError
from gpt2.common.progress import bar

Merge = tuple[bytes, bytes]  # two tokens, by what they spell

# Cuts where OpenAI's pattern cuts. The alternatives that need no look-ahead stand in a group of their own, which
# tiktoken's engine hands over to a finite automaton: it encodes 1.8 times as fast as with the pattern tiktoken ships.
SPLIT_PATTERN = r"""(?:'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+$)|\s+(?!\S)|\s"""


def _byte_characters() -> dict[int, str]:
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {byte: chr(byte) for byte in shown} | {byte: chr(256 + n) for n, byte in enumerate(hidden)}


BYTE_CHARACTERS = _byte_characters()  # the printable character that stands for each byte in GPT-2's files
BYTES = [
    bytes([byte]) for byte in BYTE_CHARACTERS
]  # tokens 0 to 255: GPT-2 numbers them in the order of the characters


def train_bpe(texts: Iterable[str], vocab_size: int) -> list[Merge]:
    """Learns the vocab_size - 257 merges that complete 256 bytes and <|endoftext|>; merge `n` makes token 256 + n.

    The most frequent pair is merged first, and of equally frequent pairs the one with the smallest left token, then the
    smallest right token. A pair counts once for each place where it stands, overlapping ones ("aaa") included.
    Raises InputError naming tokenizer.vocab_size if the texts hold too few pairs.
    """
    assert vocab_size > len(BYTES)
    frequencies = _count_words(texts)
    id_of_byte = {byte: id for id, byte in enumerate(BYTE_CHARACTERS)}
    words = [[id_of_byte[byte] for byte in word.encode()] for word in frequencies]
    pairs = _Pairs(words, list(frequencies.values()))
    tokens = list(BYTES)
    merges: list[Merge] = []
    for id in bar(range(len(BYTES), vocab_size - 1), desc="merges", unit="merge"):
        pair = pairs.most_frequent()
        if pair is None:
            raise InputError(
                f"tokenizer.vocab_size = {vocab_size}: the text has pairs for {id + 1} tokens; "
                "choose at most that, or more text"
            )
        pairs.merge(pair, id)
        merges.append((tokens[pair[0]], tokens[pair[1]]))
        tokens.append(b"".join(merges[-1]))
    return merges


def split_token(token: bytes, ranks: Mapping[bytes, int]) -> list[bytes]:
    """What encoding would leave of a token's bytes if the vocabulary ended just before it.

    Two parts, if the token is one that training can make: they are its merge.
    """
    parts = [token[i : i + 1] for i in range(len(token))]
    while True:
        joined = [ranks.get(left + right, ranks[token]) for left, right in pairwise(parts)]
        lowest = min(joined, default=ranks[token])
        if lowest == ranks[token]:
            return parts
        place = joined.index(lowest)
        parts[place : place + 2] = [parts[place] + parts[place + 1]]


def _count_words(texts: Iterable[str]) -> Counter[str]:
    find_words = regex.compile(SPLIT_PATTERN).findall
    frequencies: Counter[str] = Counter()
    for text in texts:
        frequencies.update(find_words(text))
    return frequencies


class _Pairs:
    """Words as lists of ids, and where in them which pairs of neighbours stand, kept up to date while they merge."""

    def __init__(self, words: list[list[int]], frequencies: list[int]):
        self.words, self.frequencies = words, frequencies
        self.counts: Counter[tuple[int, int]] = Counter()
        self.found_in: defaultdict[tuple[int, int], set[int]] = defaultdict(set)  # words; some may have lost the pair
        for number, word in enumerate(words):
            for pair in pairwise(word):
                self.counts[pair] += frequencies[number]
                self.found_in[pair].add(number)
        # An entry may be out of date, but only too high: a count falls silently, and rises only from zero, when the
        # pair's right or left token is new.
        self.heap = [(-count, pair) for pair, count in self.counts.items()]
        heapq.heapify(self.heap)

    def most_frequent(self) -> tuple[int, int] | None:
        """The pair to merge next; None if no word has two tokens left."""
        while self.heap:
            negative, pair = heapq.heappop(self.heap)
            count = self.counts[pair]
            if count == -negative:
                return pair
            if count:
                heapq.heappush(self.heap, (-count, pair))
        return None

    def merge(self, pair: tuple[int, int], id: int) -> None:
        """Replaces `pair` by token `id`, from left to right, in every word."""
        changes: Counter[tuple[int, int]] = Counter()
        for number in self.found_in.pop(pair):
            before, frequency = self.words[number], self.frequencies[number]
            after = _merged(before, pair, id)
            if len(after) == len(before):
                continue
            self.words[number] = after
            for old in pairwise(before):
                changes[old] -= frequency
            for new in pairwise(after):
                changes[new] += frequency
                self.found_in[new].add(number)
        for changed, change in changes.items():
            self.counts[changed] += change
            if change > 0:
                heapq.heappush(self.heap, (-self.counts[changed], changed))


def _merged(word: Sequence[int], pair: tuple[int, int], id: int) -> list[int]:
    left, right = pair
    merged, place, last = [], 0, len(word) - 1
    while place <= last:
        if word[place] == left and place < last and word[place + 1] == right:
            merged.append(id)
            place += 2
        else:
            merged.append(word[place])
            place += 1
    return merged
