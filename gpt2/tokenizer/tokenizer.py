"""GPT-2's tokenizer: text to token ids and back, by byte-level BPE with a trained vocabulary or OpenAI's.

Ids are the 256 bytes in GPT-2's order, then one token per merge, then <|endoftext|>. tiktoken encodes and decodes; the
files are those of transformers' GPT2Tokenizer.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import regex
import tiktoken
import tokenizers
from tokenizers.models import BPE

from gpt2.common.errors import InputError
from gpt2.common.files import write_json, write_text
from gpt2.tokenizer.bpe import BYTE_CHARACTERS, BYTES, SPLIT_PATTERN, Merge, split_token

EOT = "<|endoftext|>"
CHARACTER_BYTES = {character: byte for byte, character in BYTE_CHARACTERS.items()}
# Longer texts are encoded in pieces of at least this many characters. That bounds the memory, and tiktoken's engine
# fails on runs of over a million white space characters before a word.
PIECE = 500_000
# Places where GPT-2's pattern always ends a match, so that encoding both sides separately gives the same ids:
# - between another character and white space: every alternative that matches other characters ends there;
# - before the last white space of a run that a word follows: \s+(?!\S) matches the run except for that character;
# - between a letter and a character that is not one (in ASCII, where all versions of Unicode agree).
# The pattern never looks behind, and looks ahead only at white space.
BOUNDARY = regex.compile(r"\S(?=\s)|\s(?=\s\S)|[A-Za-z](?=[!-@\[-`{-~])")


class Tokenizer:
    """Text to ids and back."""

    def __init__(self, merges: Iterable[Merge]):
        """`merges` in the order of training; each joins two tokens that are bytes or made by an earlier merge."""
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

        Raises InputError if tiktoken cannot get it.
        """
        try:
            encoding = tiktoken.get_encoding("gpt2")
        except (OSError, ValueError) as error:  # no network or no such folder; a file with an unexpected digest
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(
                f"tokenizer.source = 'gpt2': tiktoken could not fetch the vocabulary ({reason}); "
                "set TIKTOKEN_CACHE_DIR to a folder that contains it"
            ) from None
        ranks = {encoding.decode_single_token_bytes(id): id for id in range(encoding.eot_token)}
        return cls(tuple(split_token(token, ranks)) for token in list(ranks)[len(BYTES) :])

    def encode(self, text: str) -> list[int]:
        """The ids of a text, in which "<|endoftext|>" is ordinary text. Lone surrogates become U+FFFD."""
        return [id for piece in _pieces(text) for id in self._encoding.encode_ordinary(piece)]

    def encode_prompt(self, text: str) -> list[int]:
        """The ids of a prompt, in which "<|endoftext|>" is the special token, as in transformers."""
        first, *others = map(self.encode, text.split(EOT))
        return first + [id for ids in others for id in (self.eot, *ids)]

    def encode_documents(self, texts: Sequence[str]) -> np.ndarray:
        """The ids of several texts, each after an <|endoftext|>: (tokens,) uint16. Releases the GIL.

        Besides the ids, it needs at most 45 bytes of memory per byte of the longest word.
        """
        encode = self._encoding.encode_to_numpy  # (tokens,) uint32
        if any(EOT in text or len(text) > PIECE for text in texts):
            eot = np.array([self.eot], dtype=np.uint32)
            documents = ([eot, *(encode(piece, disallowed_special=()) for piece in _pieces(text))] for text in texts)
            return np.concatenate([ids for document in documents for ids in document]).astype(np.uint16)
        joined = "".join(EOT + text for text in texts)  # one call for all: for short texts, calls take most of the time
        return encode(joined, allowed_special={EOT}).astype(np.uint16)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; bytes that are not UTF-8 become U+FFFD."""
        return self._encoding.decode(ids, errors="replace")

    def token_bytes(self, id: int) -> bytes:
        """The bytes of one token."""
        return self._encoding.decode_single_token_bytes(id)

    @cached_property
    def byte_lengths(self) -> np.ndarray:
        """The number of bytes of each token: (vocab_size,) int64, with 0 for <|endoftext|>, which is no text."""
        return np.array([len(self.token_bytes(id)) for id in range(self.eot)] + [0])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hex, of all tokens in the order of their ids, each preceded by its length in four bytes."""
        tokens = map(self.token_bytes, range(self.vocab_size))
        return hashlib.sha256(b"".join(len(token).to_bytes(4) + token for token in tokens)).hexdigest()

    def save(self, directory: Path, model_max_length: int | None = None) -> None:
        """Writes vocab.json, merges.txt, tokenizer.json and tokenizer_config.json, which transformers loads.

        `model_max_length` is the number of tokens to which transformers truncates text for the model in `directory`.
        """
        vocab = {_spell(self.token_bytes(id)): id for id in range(self.vocab_size)}
        merges = [f"{_spell(left)} {_spell(right)}" for left, right in self.merges]
        write_json(directory / "vocab.json", vocab)
        write_text(directory / "merges.txt", "\n".join(["#version: 0.2", *merges, ""]))
        write_json(directory / "tokenizer.json", _fast_tokenizer(vocab, merges))
        write_json(directory / "tokenizer_config.json", _tokenizer_config(model_max_length))

    @classmethod
    def load(cls, directory: Path, vocab_size: int | None = None) -> "Tokenizer":
        """Reads tokenizer.json, as transformers does, or vocab.json and merges.txt if there is no such file.

        Raises InputError naming the file if it is missing or malformed, if its ids are not in GPT-2's order, or if
        it does not have `vocab_size` tokens, the vocabulary size of the model in `directory`.
        """
        path, vocab, lines = _read_files(directory)
        try:
            merges = [tuple(bytes(CHARACTER_BYTES[c] for c in token) for token in line) for line in lines]
        except KeyError as error:
            raise InputError(f"{path}: {error.args[0]!r} is not one of GPT-2's byte characters") from None
        tokens = [*BYTES, *(left + right for left, right in merges), EOT.encode()]
        for id, token in enumerate(map(_spell, tokens)):
            if (found := vocab.pop(token, None)) != id:
                order = "256 bytes, the merges in their order, <|endoftext|>"
                raise InputError(f"{path}: {token!r} has id {found}, expected {id}: ids are {order}")
        for token, id in vocab.items():
            expected = f"expected {len(tokens)} tokens, of which {EOT} is the last"
            raise InputError(f"{path}: {token!r} = {id} was added to GPT-2's vocabulary: {expected}")
        if vocab_size not in (None, len(tokens)):
            raise InputError(
                f"{directory}: the tokenizer has {len(tokens)} tokens, the model {vocab_size}: "
                "expected the same vocabulary"
            )
        return cls(merges)


def _pieces(text: str) -> Iterator[str]:
    """Cuts a long text at boundaries; a piece exceeds PIECE by the rest of the word or white space at its end."""
    start = 0
    while len(text) - start > PIECE and (boundary := BOUNDARY.search(text, start + PIECE)):
        yield text[start : boundary.end()]
        start = boundary.end()
    yield text[start:]


def _spell(token: bytes) -> str:
    return "".join(BYTE_CHARACTERS[byte] for byte in token)


def _read_files(directory: Path) -> tuple[Path, dict[str, int], Sequence[Sequence[str]]]:
    """The path of the vocabulary, the vocabulary, and the merges, spelled in byte characters."""
    vocab, merges, whole = (directory / name for name in ("vocab.json", "merges.txt", "tokenizer.json"))
    if whole.exists():
        try:
            fast = tokenizers.Tokenizer.from_file(str(whole))
            return whole, fast.get_vocab(), json.loads(fast.to_str())["model"]["merges"]
        except Exception as error:  # the library raises nothing more specific; KeyError for a model that is not BPE
            raise InputError(f"{whole}: expected the BPE tokenizer of a GPT-2: {error}") from None
    for path in (merges, vocab):
        if not path.exists():
            raise InputError(f"{path}: no such file")
    try:
        return vocab, *BPE.read_file(str(vocab), str(merges))
    except Exception as error:
        raise InputError(f"{vocab} or {merges.name}: expected the files of a GPT-2: {error}") from None


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
        "pad_token": EOT,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
    }
    return config if model_max_length is None else config | {"model_max_length": model_max_length}
