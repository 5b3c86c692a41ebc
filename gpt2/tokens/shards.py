"""Token shards: a split's documents as one stream of uint16 ids, cut into npy files of limited length.

Each document follows an <|endoftext|>, the first one too: a model that starts from <|endoftext|> alone, as generation
without a prompt does, is then in a place that it has been trained on for every document.
"""

import resource
import warnings
from bisect import bisect_right
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from gpt2.common.errors import InputError
from gpt2.common.files import read_json
from gpt2.config.schema import NonNegativeInt, PositiveInt, Section, parse
from gpt2.tokenizer.tokenizer import Tokenizer

DTYPE = np.dtype("<u2")
MANIFEST = "manifest.json"
BINS = 32  # of a histogram of document lengths


class Shard(Section):
    """One file."""

    file: Annotated[str, Field(pattern=r"^[a-z]+_\d{6,}\.npy$")]
    tokens: PositiveInt
    sha256: str


class Split(Section):
    """The files of a split in the order of the stream, and what they hold together."""

    documents: PositiveInt
    tokens: PositiveInt  # an <|endoftext|> for each document among them
    bytes: PositiveInt  # of text, as UTF-8
    duplicates: NonNegativeInt  # documents whose text is that of an earlier one
    lengths: Annotated[tuple[NonNegativeInt, ...], Field(strict=False)]  # see `histogram`
    shards: Annotated[tuple[Shard, ...], Field(min_length=1, strict=False)]


class Manifest(Section):
    """What a directory of shards holds, and what was seen on the way."""

    vocab_size: PositiveInt
    tokenizer: str  # fingerprint
    empty: NonNegativeInt  # texts of no character, left out
    invalid_utf8: NonNegativeInt  # documents in which bytes that are not UTF-8 were replaced by U+FFFD
    val_in_train: NonNegativeInt  # documents of val whose text is in train too, where the corpus brings its own splits
    splits: dict[str, Split]


def histogram(lengths: np.ndarray) -> np.ndarray:
    """(documents,) numbers of tokens, <|endoftext|> not counted -> (BINS,): bin i counts 2**i <= tokens < 2**(i+1)."""
    return np.bincount(np.frexp(np.maximum(lengths, 1))[1] - 1, minlength=BINS)


def read_manifest(directory: Path) -> Manifest:
    """The manifest of a directory. Raises InputError if it is missing or malformed, or its sums are wrong."""
    path = directory / MANIFEST
    manifest = parse(Manifest, read_json(path), str(path))
    for name, split in manifest.splits.items():
        tokens, documents = sum(shard.tokens for shard in split.shards), sum(split.lengths)
        if split.tokens != tokens:
            raise InputError(f"{path}: splits.{name}.tokens = {split.tokens}, but its shards add up to {tokens}")
        if split.documents != documents:
            raise InputError(f"{path}: splits.{name}.documents = {split.documents}, but lengths add up to {documents}")
        if tokens < 2 * documents:
            raise InputError(f"{path}: splits.{name}.tokens = {tokens}, expected two or more for each document")
    return manifest


def open_shard(directory: Path, shard: Shard, vocab_size: int) -> np.ndarray:
    """Maps a file into memory, read-only. Raises InputError if it is not what the manifest says.

    The file is read through once for its largest id, at the speed of the disk (GB/s where it is cached in memory); an
    id beyond the vocabulary would end in a fault of the GPU, without a name, hours later.
    """
    path = directory / shard.file
    try:
        with warnings.catch_warnings(action="ignore"):  # of the header
            tokens = np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file, but the manifest lists it") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except Exception as error:  # a damaged header fails in numpy's parser in more ways than it documents
        raise InputError(f"{path}: not a whole npy file: {str(error).partition(chr(10))[0]}") from None
    if tokens.dtype != DTYPE or tokens.ndim != 1:
        raise InputError(f"{path}: holds {tokens.dtype} of shape {tokens.shape}, expected a row of {DTYPE}")
    if len(tokens) != shard.tokens:
        raise InputError(f"{path}: holds {len(tokens)} tokens, the manifest says {shard.tokens}")
    size, expected = path.stat().st_size, tokens.offset + tokens.nbytes
    if size != expected:
        raise InputError(f"{path}: {size} bytes long, but its tokens end at {expected}")
    largest = int(tokens.max())
    if largest >= vocab_size:
        raise InputError(f"{path}: id {largest} in a vocabulary of {vocab_size}")
    return tokens.view(np.ndarray)  # slices of a plain array are made faster than those of a memmap


def _allow_open_files() -> None:
    """Lets this process have as many files open as the system permits: each shard that is mapped takes one."""
    with suppress(ValueError, OSError):  # some systems call the limit infinite, and then refuse it
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class TokenStream:
    """The shards of one split as one sequence of ids."""

    def __init__(self, directory: Path, split: str, tokenizer: Tokenizer):
        """Raises InputError if the shards were made by another tokenizer, or are not what their manifest says."""
        manifest = read_manifest(directory)
        if manifest.tokenizer != tokenizer.fingerprint:
            raise InputError(f"{directory / MANIFEST}: another tokenizer made these shards; tokenize again")
        if manifest.vocab_size != tokenizer.vocab_size:
            raise InputError(
                f"{directory / MANIFEST}: vocab_size = {manifest.vocab_size}, the tokenizer's is {tokenizer.vocab_size}"
            )
        if split not in manifest.splits:
            raise InputError(f"{directory / MANIFEST}: no split {split!r}; it has {', '.join(manifest.splits)}")
        self.split = split
        _allow_open_files()
        self._shards = [open_shard(directory, shard, manifest.vocab_size) for shard in manifest.splits[split].shards]
        self._starts = [0, *accumulate(len(shard) for shard in self._shards)]

    def __len__(self) -> int:
        """How many tokens there are."""
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
