"""Byte-pair encoding: learns a vocabulary from text.

Sennrich et al. 2016 (https://arxiv.org/abs/1508.07909); on bytes, as in Radford et al. 2019, section 2.2.

1. A regular expression cuts the text into words. A word keeps the space before it, and no token crosses words.
2. Each word starts as its UTF-8 bytes: 256 tokens can spell any text.
3. The most frequent pair of neighboring tokens becomes a new token and replaces the pair everywhere.
   Step 3 repeats until the vocabulary is full.

The list of merges is the whole result: applied in the same order, they cut any other text into tokens.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import regex

from gpt2.common.errors import InputError
from gpt2.common.progress import bar

Merge = tuple[bytes, bytes]  # the bytes of the two tokens that are joined
Pair = tuple[int, int]  # the ids of two neighboring tokens

# Splits where OpenAI's pattern splits. The alternatives without lookahead form one group, which tiktoken's engine hands
# to a finite automaton: it encodes 1.8 times as fast as with the pattern that tiktoken ships.
SPLIT_PATTERN = r"""(?:'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+$)|\s+(?!\S)|\s"""


def _byte_characters() -> dict[int, str]:
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}


# GPT-2's files spell each byte as a printable character. Tokens 0 to 255 are the bytes in the order of this table.
BYTE_CHARACTERS = _byte_characters()
BYTES = [bytes([byte]) for byte in BYTE_CHARACTERS]


def train_bpe(texts: Iterable[str], vocab_size: int) -> list[Merge]:
    """Learns the vocab_size - 257 merges that complete 256 bytes and <|endoftext|>; merge `n` makes token 256 + n.

    Ties go to the pair with the smallest left id, then to the one with the smallest right id, so the result does not
    depend on the order of the texts. Overlapping occurrences of a pair ("aaa") all count.
    Raises InputError naming tokenizer.vocab_size if the texts have too few pairs.
    """
    assert vocab_size > len(BYTES)
    frequencies = count_words(texts)
    byte_ids = {byte: id for id, byte in enumerate(BYTE_CHARACTERS)}
    words = [[byte_ids[byte] for byte in word.encode()] for word in frequencies]
    pairs = PairCounts(words, list(frequencies.values()))
    tokens = list(BYTES)
    merges: list[Merge] = []
    for id in bar(range(len(BYTES), vocab_size - 1), desc="merges", unit="merge"):
        pair = pairs.most_frequent()
        if pair is None:
            raise InputError(
                f"tokenizer.vocab_size = {vocab_size}: the text supports at most {id + 1} tokens; "
                "lower vocab_size or add text"
            )
        pairs.merge(pair, id)
        left, right = tokens[pair[0]], tokens[pair[1]]
        merges.append((left, right))
        tokens.append(left + right)
    return merges


def count_words(texts: Iterable[str]) -> Counter[str]:
    """Counts each distinct word. The rest of training handles it once, however frequent it is."""
    find_words = regex.compile(SPLIT_PATTERN).findall
    frequencies: Counter[str] = Counter()
    for text in texts:
        frequencies.update(find_words(text))
    return frequencies


class PairCounts:
    """All words as lists of token ids, and how often each pair of neighbors occurs in them.

    Counting all pairs again for each merge would be slow. A merge changes only the words that contain its pair, so
    `merge` updates the counts of those words, and a heap finds the most frequent pair.
    """

    def __init__(self, words: list[list[int]], frequencies: list[int]):
        """`frequencies[i]` is the number of times that `words[i]` occurs in the text."""
        self.words, self.frequencies = words, frequencies
        self.counts: Counter[Pair] = Counter()
        self.words_with: defaultdict[Pair, set[int]] = defaultdict(set)  # may list words that have lost the pair
        for number, word in enumerate(words):
            for pair in pairwise(word):
                self.counts[pair] += frequencies[number]
                self.words_with[pair].add(number)
        # Entries (-count, pair). Counts that fall leave entries that are too high, which `most_frequent` corrects; a
        # count can rise only for a pair with the new token, which `merge` pushes.
        self.heap = [(-count, pair) for pair, count in self.counts.items()]
        heapq.heapify(self.heap)

    def most_frequent(self) -> Pair | None:
        """The pair to merge next; None if every word is a single token."""
        while self.heap:
            negative_count, pair = heapq.heappop(self.heap)
            count = self.counts[pair]
            if count == -negative_count:
                return pair
            if count:
                heapq.heappush(self.heap, (-count, pair))
        return None

    def merge(self, pair: Pair, id: int) -> None:
        """Replaces `pair` with token `id` in all words."""
        changes: Counter[Pair] = Counter()
        for number in self.words_with.pop(pair):
            before, frequency = self.words[number], self.frequencies[number]
            after = merge_pair(before, pair, id)
            if len(after) == len(before):
                continue
            self.words[number] = after
            for old in pairwise(before):
                changes[old] -= frequency
            for new in pairwise(after):
                changes[new] += frequency
                self.words_with[new].add(number)
        for changed, change in changes.items():
            self.counts[changed] += change
            if change > 0:
                heapq.heappush(self.heap, (-self.counts[changed], changed))


def merge_pair(word: Sequence[int], pair: Pair, id: int) -> list[int]:
    """Replaces each occurrence of `pair` in the word with `id`, from left to right."""
    merged, place = [], 0
    while place < len(word):
        if tuple(word[place : place + 2]) == pair:
            merged.append(id)
            place += 2
        else:
            merged.append(word[place])
            place += 1
    return merged


def split_token(token: bytes, ranks: Mapping[bytes, int]) -> list[bytes]:
    """Encodes `token` with tokens of lower rank only; returns the two parts of its merge if BPE made it.

    `ranks` maps the bytes of each token to its id. tiktoken ships GPT-2's vocabulary in this form, without the merges.
    """
    parts = [token[i : i + 1] for i in range(len(token))]
    while True:
        joined = [ranks.get(left + right, ranks[token]) for left, right in pairwise(parts)]
        lowest = min(joined, default=ranks[token])
        if lowest == ranks[token]:
            return parts
        place = joined.index(lowest)
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
