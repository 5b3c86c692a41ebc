"""GPT-2's tokenizer: byte-level BPE with a vocabulary trained here or OpenAI's own, run by tiktoken.

Ids are 256 bytes in GPT-2's order, then one token a merge, then <|endoftext|>.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import regex
import tiktoken

from gpt2.common.errors import InputError
from gpt2.common.files import read_json, write_json, write_text
from gpt2.tokenizer.bpe import BYTE_CHARACTERS, BYTES, SPLIT_PATTERN, Merge, split_token

EOT = "<|endoftext|>"
CHARACTER_BYTES = {character: byte for byte, character in BYTE_CHARACTERS.items()}
# A longer text is encoded in pieces of at least so many characters: memory stays bounded, and tiktoken's engine gives
# up on white space of over a million characters before a word.
PIECE = 500_000
# Places where GPT-2's pattern ends a match whatever stands before and after, so that both sides can be encoded apart:
# - between another character and white space: every alternative that takes other characters ends with them;
# - before the last white space of a run that a word follows: \s+(?!\S) takes the run but for that one;
# - between a letter and what is none (in ASCII, where all versions of Unicode agree): words and contractions end so.
# The pattern never looks back, and ahead it looks at white space alone, so each side is then cut as in the whole text.
BOUNDARY = regex.compile(r"\S(?=\s)|\s(?=\s\S)|[A-Za-z](?=[!-@\[-`{-~])")


class Tokenizer:
    """Text to ids and back."""

    def __init__(self, merges: Iterable[Merge]):
        """Merges in the order of their rank, each of two tokens that are bytes or made by an earlier merge."""
        self.merges = list(merges)
        tokens = BYTES + [left + right for left, right in self.merges]
        self.eot = len(tokens)
        self.vocab_size = len(tokens) + 1
        self._encoding = tiktoken.Encoding(
            "gpt2",
            pat_str=SPLIT_PATTERN,
            mergeable_ranks={token: rank for rank, token in enumerate(tokens)},
            special_tokens={EOT: self.eot},
            explicit_n_vocab=self.vocab_size,
        )

    @classmethod
    def gpt2(cls) -> "Tokenizer":
        """OpenAI's vocabulary of 50,257 tokens, which tiktoken downloads, or reads from TIKTOKEN_CACHE_DIR.

        Raises InputError if it cannot be had.
        """
        try:
            ranks = tiktoken.get_encoding("gpt2")._mergeable_ranks
        except (OSError, ValueError) as error:  # no network, no such folder; contents that do not have the known digest
            raise InputError(
                f"tokenizer.source = 'gpt2': tiktoken could not fetch the vocabulary ({_first_line(error)}); "
                "set TIKTOKEN_CACHE_DIR to a folder that holds it"
            ) from None
        tokens = sorted(ranks, key=ranks.__getitem__)
        return cls(tuple(split_token(token, ranks)) for token in tokens[len(BYTES) :])

    def encode(self, text: str) -> list[int]:
        """The ids of a text. What spells <|endoftext|> is ordinary text; lone surrogates are read as U+FFFD."""
        return [id for piece in _pieces(text) for id in self._encoding.encode_ordinary(piece)]

    def encode_parts(self, parts: Iterable[str]) -> Iterator[int]:
        """The ids of a text that comes in parts, wherever they are cut: those that `encode` gives the whole."""
        rest = ""
        for part in parts:
            *pieces, rest = _pieces(rest + part)
            for piece in pieces:
                yield from self._encoding.encode_ordinary(piece)
        yield from self._encoding.encode_ordinary(rest)

    def encode_documents(self, texts: Sequence[str]) -> np.ndarray:
        """The ids of several texts, each after an <|endoftext|>, in one uint16 array. Other threads run meanwhile.

        The longest word bounds the memory: 45 bytes for each of its bytes, besides the ids.
        """
        if any(EOT in text or len(text) > PIECE for text in texts):
            eot = np.array([self.eot], dtype=np.uint16)
            return np.concatenate([ids for text in texts for ids in (eot, *self._encode_pieces(text))])
        joined = "".join(EOT + text for text in texts)  # one call for all: most of the time of short texts is calls
        return self._encoding.encode_to_numpy(joined, allowed_special={EOT}).astype(np.uint16)

    def _encode_pieces(self, text: str) -> Iterator[np.ndarray]:
        for piece in _pieces(text):
            yield self._encoding.encode_to_numpy(piece, disallowed_special=()).astype(np.uint16)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; bytes that are not UTF-8 become U+FFFD."""
        return self._encoding.decode(ids, errors="replace")

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """The bytes of ids."""
        return self._encoding.decode_bytes(ids)

    def token_bytes(self, id: int) -> bytes:
        """What one token spells."""
        return self._encoding.decode_single_token_bytes(id)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hex, of all tokens in the order of their ids, each after its length in four bytes."""
        tokens = map(self.token_bytes, range(self.vocab_size))
        return hashlib.sha256(b"".join(len(token).to_bytes(4) + token for token in tokens)).hexdigest()

    def save(self, directory: Path, model_max_length: int | None = None) -> None:
        """Writes vocab.json, merges.txt, tokenizer.json and tokenizer_config.json, which transformers loads.

        `model_max_length`, in tokens, is where transformers truncates text for the model that lies beside.
        """
        vocab = {_spell(self.token_bytes(id)): id for id in range(self.vocab_size)}
        merges = [f"{_spell(left)} {_spell(right)}" for left, right in self.merges]
        write_json(directory / "vocab.json", vocab)
        write_text(directory / "merges.txt", "\n".join(["#version: 0.2", *merges, ""]))
        write_json(directory / "tokenizer.json", _fast_tokenizer(vocab, merges))
        write_json(directory / "tokenizer_config.json", _tokenizer_config(model_max_length))

    @classmethod
    def load(cls, directory: Path, vocab_size: int | None = None) -> "Tokenizer":
        """Reads vocab.json and merges.txt, or tokenizer.json, which may be all that transformers saved.

        Raises InputError naming the file, and the merge, if they are missing, malformed or disagree; and where the
        vocabulary is not of `vocab_size`, that of the model that lies beside.
        """
        whole = directory / "tokenizer.json"
        if whole.exists() and not (directory / "merges.txt").exists():
            path, (lines, vocab) = whole, _read_fast_tokenizer(whole)
            merges = _parse_merges(lines, f"{whole}, merge", first=1)
        else:
            path, merges = directory / "vocab.json", _read_merges(directory / "merges.txt")
            vocab = read_json(path)
        expected = [*BYTES, *(left + right for left, right in merges), EOT.encode()]
        _check_vocab(path, vocab, {_spell(token): id for id, token in enumerate(expected)})
        if vocab_size not in (None, len(expected)):
            raise InputError(
                f"{directory}: the tokenizer has {len(expected)} tokens, the model {vocab_size}: "
                "expected the same vocabulary"
            )
        return cls(merges)


def _pieces(text: str) -> Iterator[str]:
    """Cuts a long text at boundaries; a piece exceeds PIECE by what is left of the word or white space at its end."""
    start = 0
    while len(text) - start > PIECE and (boundary := BOUNDARY.search(text, start + PIECE)):
        yield text[start : boundary.end()]
        start = boundary.end()
    yield text[start:]


def _spell(token: bytes) -> str:
    return "".join(BYTE_CHARACTERS[byte] for byte in token)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _read_merges(path: Path) -> list[Merge]:
    """The merges of a merges.txt. Raises InputError naming the line that does not fit those above it."""
    try:
        version, *lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8: {error}") from None
    if not version.startswith("#version"):
        raise InputError(f"{path}, line 1: expected '#version: 0.2', found {version[:40]!r}")
    return _parse_merges(lines, f"{path}, line", first=2)


def _read_fast_tokenizer(path: Path) -> tuple[list[str], dict[str, int]]:
    """The merges, in the form of merges.txt, and the vocabulary of a tokenizer.json."""
    raw = read_json(path)
    try:
        model, added = raw["model"], raw["added_tokens"]
        lines = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
        return lines, model["vocab"] | {token["content"]: token["id"] for token in added}
    except (KeyError, TypeError):
        raise InputError(f"{path}: expected GPT-2's tokenizer: a model with vocab and merges, added_tokens") from None


def _parse_merges(lines: list[str], where_from: str, first: int) -> list[Merge]:
    """The merges that lines spell. Raises InputError naming the one, counted from `first`, that does not fit."""
    ranks = {token: rank for rank, token in enumerate(BYTES)}
    merges: dict[bytes, Merge] = {}  # by what they make
    for number, line in enumerate(lines, start=first):
        where = f"{where_from} {number}"
        try:
            left, right = (bytes(CHARACTER_BYTES[character] for character in part) for part in line.split(" "))
        except (KeyError, ValueError):
            raise InputError(f"{where}: expected two tokens in GPT-2's byte characters, found {line[:80]!r}") from None
        for part in (left, right):
            if part not in ranks:
                raise InputError(f"{where}: {_spell(part)!r} is neither a byte nor made by a line above")
        token = left + right
        if token in ranks:
            raise InputError(f"{where}: {_spell(token)!r} is made by a line above already")
        if not _stays_cut(left, right, ranks, merges):
            raise InputError(f"{where}: {line!r} can never apply, because the lines above merge these bytes otherwise")
        ranks[token] = len(ranks)
        merges[token] = (left, right)
    return list(merges.values())


def _stays_cut(left: bytes, right: bytes, ranks: Mapping[bytes, int], merges: Mapping[bytes, Merge]) -> bool:
    """Whether encoding left + right ends in these two tokens, each of which encoding does make of its own bytes.

    Undoes their merges, the last one first, and looks at the tokens that then meet at the cut: had they a merge that
    comes before the one undone, encoding would have joined them. Of equal merges the one further left comes first.
    """
    while True:
        if left in merges and ranks[left] > ranks[right]:
            undone, left = ranks[left], merges[left][1]
        elif right in merges:
            undone, right = ranks[right] + 1, merges[right][0]
        else:
            return True
        if ranks.get(left + right, undone) < undone:
            return False


def _check_vocab(path: Path, vocab: object, expected: dict[str, int]) -> None:
    """Raises InputError unless the vocabulary that a file gives holds what its merges make."""
    if not isinstance(vocab, dict):
        raise InputError(f"{path}: expected an object of tokens and ids, found {type(vocab).__name__}")
    for token, id in expected.items():
        if vocab.get(token) != id:
            found = f"the file gives it {vocab[token]!r}" if token in vocab else "it is missing"
            raise InputError(f"{path}: {token!r} must have id {id} to fit the merges, but {found}")
    for token in vocab.keys() - expected.keys():
        raise InputError(f"{path}: {token!r} = {vocab[token]!r} is made by no merge")


def _fast_tokenizer(vocab: dict[str, int], merges: list[str]) -> dict:
    """The contents of tokenizer.json, with the settings of openai-community/gpt2."""
    eot = {"id": vocab[EOT], "content": EOT, "single_word": False, "lstrip": False, "rstrip": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{**eot, "normalized": True, "special": True}],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True},
        "post_processor": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "vocab": vocab,
            "merges": merges,
        },
    }


def _tokenizer_config(model_max_length: int | None) -> dict:
    """The contents of tokenizer_config.json."""
    config = {
        "tokenizer_class": "GPT2Tokenizer",
        "bos_token": EOT,
        "eos_token": EOT,
        "unk_token": EOT,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
    }
    return config if model_max_length is None else config | {"model_max_length": model_max_length}
