"""Token shards: the documents of a split as one stream of token ids, in npy files of uint16.

Each document, including the first, follows an <|endoftext|>. So a model that starts from <|endoftext|> alone, as in
generation without a prompt, is in a state that it has seen in training before every document.
"""

from bisect import bisect_right
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from gpt2.common.errors import InputError
from gpt2.common.files import read_json
from gpt2.common.machine import raise_open_files_limit
from gpt2.config.schema import NonNegativeInt, PositiveInt, Section, TextList, parse
from gpt2.tokenizer.tokenizer import Tokenizer

DTYPE = np.dtype("<u2")
MANIFEST = "manifest.json"
BINS = 32  # number of bins in the histogram of document lengths


class Shard(Section):
    """One file."""

    file: Annotated[str, Field(pattern=r"^[a-z]+_\d{6,}\.npy$")]
    tokens: PositiveInt
    sha256: str


class Split(Section):
    """The files of a split in the order of the stream, and totals over them."""

    documents: PositiveInt
    tokens: PositiveInt  # including one <|endoftext|> per document
    bytes: PositiveInt  # length of the texts in UTF-8
    duplicates: NonNegativeInt  # documents with the text of an earlier document
    lengths: Annotated[tuple[NonNegativeInt, ...], Field(strict=False)]  # see `histogram`
    shards: Annotated[tuple[Shard, ...], Field(min_length=1, strict=False)]


class Origin(Section):
    """Where the corpus came from, as its manifest says."""

    source: str
    repo: str | None = None  # on the hub
    license: str | TextList | None = None  # None: unknown


class Manifest(Section):
    """The contents of a directory of shards."""

    vocab_size: PositiveInt
    tokenizer: str  # fingerprint
    empty: NonNegativeInt  # number of empty texts, which are skipped
    invalid_utf8: NonNegativeInt  # documents in which bytes that are not UTF-8 were replaced by U+FFFD
    val_in_train: NonNegativeInt  # documents of val whose text is also in train; 0 unless the corpus defines splits
    splits: dict[str, Split]
    heldout: Literal["blocks"] | None = None  # blocks: val is cut out of documents, which are too few to hold out whole
    corpus: Origin | None = None  # None in the folder of a task


def histogram(lengths: np.ndarray) -> np.ndarray:
    """(documents,) lengths in tokens without <|endoftext|> -> (BINS,): bin i counts 2**i <= length < 2**(i+1)."""
    return np.bincount(np.frexp(np.maximum(lengths, 1))[1] - 1, minlength=BINS)


def read_manifest(directory: Path) -> Manifest:
    """The manifest of a directory. Raises InputError if it is missing or malformed."""
    path = directory / MANIFEST
    return parse(Manifest, read_json(path), str(path))


def open_shard(directory: Path, shard: Shard) -> np.ndarray:
    """Maps a file into memory: (tokens,) uint16, read-only. Raises InputError if it does not match the manifest."""
    path = directory / shard.file
    try:
        tokens = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"not a whole npy file: {error}"
        raise InputError(f"{path}: {reason}") from None
    if tokens.dtype != DTYPE or tokens.shape != (shard.tokens,):
        raise InputError(
            f"{path}: contains {tokens.dtype} of shape {tokens.shape}, expected {DTYPE} of shape {(shard.tokens,)}"
        )
    return tokens.view(np.ndarray)  # slicing a plain array is faster than slicing a memmap


class TokenStream:
    """The shards of one split as one sequence of token ids."""

    def __init__(self, directory: Path, split: str, tokenizer: Tokenizer):
        """Raises InputError if another tokenizer made the shards, or a shard does not match the manifest."""
        manifest = read_manifest(directory)
        if manifest.tokenizer != tokenizer.fingerprint:
            raise InputError(f"{directory / MANIFEST}: another tokenizer made these shards; tokenize again")
        if split not in manifest.splits:
            raise InputError(f"{directory / MANIFEST}: no split {split!r}; it has {', '.join(manifest.splits)}")
        self.split = split
        raise_open_files_limit()  # each mapped shard takes an open file
        self._shards = [open_shard(directory, shard) for shard in manifest.splits[split].shards]
        self._starts = [0, *accumulate(len(shard) for shard in self._shards)]

    def __len__(self) -> int:
        """The number of tokens."""
        return self._starts[-1]

    def read(self, start: int, count: int) -> np.ndarray:
        """Tokens start to start + count: (count,) uint16, read-only unless they cross from one file to the next."""
        assert 0 <= start <= start + count <= len(self)
        first = bisect_right(self._starts, start, hi=len(self._shards)) - 1
        parts = []
        for shard, begin in zip(self._shards[first:], self._starts[first:], strict=False):
            parts.append(shard[max(0, start - begin) : start + count - begin])
            if start + count <= begin + len(shard):
                break
        return parts[0] if len(parts) == 1 else np.concatenate(parts)
