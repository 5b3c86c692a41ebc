"""GPT-2's tokenizer: text to token ids and back, by byte-level BPE with a trained vocabulary or OpenAI's.

Ids are the 256 bytes in GPT-2's order, then one token per merge, then <|endoftext|>, then tokens that somebody added
to a vocabulary, such as [PAD]. tiktoken encodes and decodes; the files are those of transformers' GPT2Tokenizer.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import regex
import tiktoken
import tokenizers
from tokenizers import AddedToken
from tokenizers.models import BPE

from gpt2.common.errors import InputError
from gpt2.common.files import write_json, write_text
from gpt2.tokenizer.bpe import BYTES, SPLIT_PATTERN, Merge, split_token
from gpt2.tokenizer.files import EOT, FLAGS, read_vocabulary, spell

# A model may have this many rows after the last token, since many pad the vocabulary to a multiple of 64 or 1024.
PADDING = 1023
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

    def __init__(self, merges: Iterable[Merge], added: Sequence[AddedToken] = ()):
        """`merges` in the order of training; each joins two tokens that are bytes or made by an earlier merge.

        `added` are the tokens after <|endoftext|>, in the order of their ids.
        """
        self.merges, self.added = list(merges), list(added)
        tokens = BYTES + [left + right for left, right in self.merges]
        self.eot = len(tokens)
        self.vocab_size = len(tokens) + 1 + len(self.added)
        self._encoding = tiktoken.Encoding(
            "gpt2",
            pat_str=SPLIT_PATTERN,
            mergeable_ranks={token: rank for rank, token in enumerate(tokens)},
            special_tokens={EOT: self.eot} | {t.content: self.eot + n for n, t in enumerate(self.added, start=1)},
            explicit_n_vocab=self.vocab_size,
        )
        self._special = _splitter(self.added, split_special_tokens=False)
        ordinary = not all(token.special for token in self.added)  # such tokens are found in any text
        self._ordinary = _splitter(self.added, split_special_tokens=True) if ordinary else None

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
        """The ids of a text, in which "<|endoftext|>" and other special tokens are ordinary text.

        Lone surrogates become U+FFFD.
        """
        if self._ordinary:
            return self._encode_added(text, self._ordinary)
        return self._encode_ordinary(text)

    def encode_prompt(self, text: str) -> list[int]:
        """The ids of a prompt, in which special tokens such as "<|endoftext|>" are one token, as in transformers."""
        return self._encode_added(text, self._special)

    def _encode_added(self, text: str, splitter: tokenizers.Tokenizer) -> list[int]:
        """The ids of a text in which the tokens that `splitter` finds are one token each."""
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        found, ids, end = splitter.encode(text), [], 0
        for number, (start, stop) in zip(found.ids, found.offsets, strict=True):
            ids += [*self._encode_ordinary(text[end:start]), self.eot + number]
            end = stop
        return ids + self._encode_ordinary(text[end:])

    def _encode_ordinary(self, text: str) -> list[int]:
        return [id for piece in _pieces(text) for id in self._encoding.encode_ordinary(piece)]

    def encode_documents(self, texts: Sequence[str]) -> np.ndarray:
        """The ids of several texts, each after an <|endoftext|>: (tokens,) uint16.

        Unless there are added tokens that are not special, it releases the GIL, and besides the ids it needs at most 45
        bytes of memory per byte of the longest word.
        """
        if self._ordinary:
            return np.array([id for text in texts for id in (self.eot, *self.encode(text))], dtype=np.uint16)
        encode = self._encoding.encode_to_numpy  # (tokens,) uint32
        if any(EOT in text or len(text) > PIECE for text in texts):
            eot = np.array([self.eot], dtype=np.uint32)
            documents = ([eot, *(encode(piece, disallowed_special=()) for piece in _pieces(text))] for text in texts)
            return np.concatenate([ids for document in documents for ids in document]).astype(np.uint16)
        joined = "".join(EOT + text for text in texts)  # one call for all: for short texts, calls take most of the time
        return encode(joined, allowed_special={EOT}, disallowed_special=()).astype(np.uint16)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; bytes that are not UTF-8 become U+FFFD."""
        return self._encoding.decode([id for id in ids if id < self.vocab_size], errors="replace")

    def token_bytes(self, id: int) -> bytes:
        """The bytes of one token: none for an id after the last token, which a model with more rows may generate."""
        return self._encoding.decode_single_token_bytes(id) if id < self.vocab_size else b""

    @cached_property
    def byte_lengths(self) -> np.ndarray:
        """The number of bytes of each token: (vocab_size,) int64, with 0 for <|endoftext|>, which is no text."""
        return np.array([len(self.token_bytes(id)) if id != self.eot else 0 for id in range(self.vocab_size)])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hex, of all tokens in the order of their ids, each preceded by its length in four bytes."""
        tokens = map(self.token_bytes, range(self.vocab_size))
        return hashlib.sha256(b"".join(len(token).to_bytes(4) + token for token in tokens)).hexdigest()

    def save(
        self,
        directory: Path,
        model_max_length: int | None = None,
        padding_side: Literal["left", "right"] = "left",
        chat_template: str | None = None,
    ) -> None:
        """Writes vocab.json, merges.txt, tokenizer.json and tokenizer_config.json, which transformers loads.

        `model_max_length` is the number of tokens to which transformers truncates text for the model in `directory`.
        It pads with <|endoftext|>: on the left for a language model, which continues the last token of each row, and
        on the right for a classifier, whose positions count from the first. `chat_template` is in Jinja.
        """
        vocab = {spell(self.token_bytes(id)): id for id in range(self.eot + 1)}
        merges = [f"{spell(left)} {spell(right)}" for left, right in self.merges]
        write_json(directory / "vocab.json", vocab)
        write_text(directory / "merges.txt", "\n".join(["#version: 0.2", *merges, ""]))
        write_json(directory / "tokenizer.json", _fast_tokenizer(vocab, merges, self.added))
        config = _tokenizer_config(model_max_length, padding_side, chat_template)
        write_json(directory / "tokenizer_config.json", config)

    @classmethod
    def load(cls, directory: Path, rows: int | None = None) -> "Tokenizer":
        """Reads tokenizer.json, as transformers does, or vocab.json and merges.txt if there is no such file.

        Raises InputError naming the file if it is missing or malformed, if its ids are not in GPT-2's order, or if its
        tokens do not fit a model with `rows` token embeddings, which may have a few more than there are tokens.
        """
        tokenizer = cls(*read_vocabulary(directory))
        if rows is not None and not 0 <= rows - tokenizer.vocab_size <= PADDING:
            expected = f"expected a row per token, and at most {PADDING} more"
            raise InputError(
                f"{directory}: the tokenizer has {tokenizer.vocab_size} tokens, the model {rows}: {expected}"
            )
        return tokenizer


def _splitter(added: Sequence[AddedToken], split_special_tokens: bool) -> tokenizers.Tokenizer:
    """Finds added tokens in a text as transformers does: token n has the offsets of the n-th after <|endoftext|>."""
    splitter = tokenizers.Tokenizer(BPE())  # without a vocabulary, so that it returns nothing else
    splitter.add_tokens([AddedToken(EOT, special=True), *added])
    splitter.encode_special_tokens = split_special_tokens
    return splitter


def _pieces(text: str) -> Iterator[str]:
    """Cuts a long text at boundaries; a piece exceeds PIECE by the rest of the word or white space at its end."""
    start = 0
    while len(text) - start > PIECE and (boundary := BOUNDARY.search(text, start + PIECE)):
        yield text[start : boundary.end()]
        start = boundary.end()
    yield text[start:]


def _fast_tokenizer(vocab: dict[str, int], merges: list[str], added: Sequence[AddedToken]) -> dict:
    """The contents of tokenizer.json, with the settings of openai-community/gpt2."""
    eot = AddedToken(EOT, special=True, normalized=True)
    tokens = [
        {"id": id, "content": token.content, **{flag: getattr(token, flag) for flag in FLAGS}}
        for id, token in enumerate([eot, *added], start=vocab[EOT])
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": tokens,
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


def _tokenizer_config(model_max_length: int | None, padding_side: str, chat_template: str | None) -> dict:
    """The contents of tokenizer_config.json."""
    config = {
        "tokenizer_class": "GPT2Tokenizer",
        "bos_token": EOT,
        "eos_token": EOT,
        "unk_token": EOT,
        "pad_token": EOT,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "padding_side": padding_side,
        "model_max_length": model_max_length,
        "chat_template": chat_template,
    }
    return {key: value for key, value in config.items() if value is not None}
