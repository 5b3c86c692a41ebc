"""Token shards: a split's documents as one stream of uint16 ids, cut into npy files of limited length.

Each document follows an <|endoftext|>, the first one too: a model that starts from <|endoftext|> alone, as generation
without a prompt does, is then in a place that it has been trained on for every document.

As commands, `python -m gpt2.shards verify DIR` compares a directory with its manifest, checksums included, and
`python -m gpt2.shards stats DIR` prints what it holds.
"""

import argparse
import resource
import sys
import warnings
from bisect import bisect_right
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from gpt2.errors import InputError
from gpt2.files import read_json, sha256
from gpt2.progress import bar
from gpt2.section import NonNegativeInt, PositiveInt, Section, parse
from gpt2.tokenizer import Tokenizer

DTYPE = np.dtype("<u2")
MANIFEST = "manifest.json"
BINS = 32  # of a histogram of document lengths
BAR_WIDTH = 40  # characters


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


# --- reading -------------------------------------------------------------------------------------------------------


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


# --- commands ------------------------------------------------------------------------------------------------------


def verify(directory: Path) -> str:
    """Reads every byte and compares it with the manifest; returns a line that says what was found to be in order.

    What only the text tells is taken on trust: bytes, duplicates, val_in_train, empty and invalid_utf8. Raises
    InputError naming the first shard that is not what the manifest says or not in it, or the split that has other
    documents.
    """
    manifest = _read_filled_manifest(directory)
    listed = {shard.file for split in manifest.splits.values() for shard in split.shards}
    if others := sorted({path.name for path in directory.glob("*.npy")} - listed):
        raise InputError(f"{directory / others[0]}: not in the manifest")
    found = []
    for name, split in manifest.splits.items():
        for shard in split.shards:
            if not shard.file.startswith(f"{name}_"):
                raise InputError(f"{directory / MANIFEST}: splits.{name} lists {shard.file}, a file of another split")
        lengths = np.trim_zeros(_document_lengths(directory, name, manifest), "b").tolist()
        if lengths != list(split.lengths):
            raise InputError(
                f"{directory / MANIFEST}: splits.{name}.lengths = {list(split.lengths)}, but there are {lengths}"
            )
        found.append(f"{name}: {split.documents:,} documents, {split.tokens:,} tokens, shards: {len(split.shards)}")
    return f"ok: {'; '.join(found)}"


def _read_filled_manifest(directory: Path) -> Manifest:
    """As `read_manifest`. Raises InputError where there is no split too."""
    manifest = read_manifest(directory)
    if not manifest.splits:
        raise InputError(f"{directory / MANIFEST}: splits is empty")
    return manifest


def _document_lengths(directory: Path, name: str, manifest: Manifest) -> np.ndarray:
    """The histogram of a split, counted anew from shards whose checksums are compared."""
    starts, end = [], 0
    for shard in bar(manifest.splits[name].shards, desc=name, unit="shard"):
        tokens = open_shard(directory, shard, manifest.vocab_size)
        if (digest := sha256(directory / shard.file)) != shard.sha256:
            raise InputError(f"{directory / shard.file}: sha256 {digest}, the manifest says {shard.sha256}")
        starts.append(np.flatnonzero(tokens == manifest.vocab_size - 1) + end)
        end += len(tokens)
    return histogram(np.diff(np.concatenate(starts), append=end) - 1)


def stats(directory: Path) -> str:
    """A table of what each split holds, and a histogram of its documents' lengths.

    Raises InputError if the shards are not what the manifest says, as far as opening them shows.
    """
    manifest = _read_filled_manifest(directory)
    for split in manifest.splits.values():
        for shard in split.shards:
            open_shard(directory, shard, manifest.vocab_size)
    columns = {name: _figures(split) for name, split in manifest.splits.items()}
    labels = next(iter(columns.values()))
    lines = ["".join([f"{'':22}", *(f"{name:>18}" for name in columns)])]
    lines += ["".join([f"{label:22}", *(f"{column[label]:>18}" for column in columns.values())]) for label in labels]
    lines += [
        "",
        f"vocabulary of {manifest.vocab_size:,}; left out as empty: {manifest.empty:,}; "
        f"not UTF-8: {manifest.invalid_utf8:,}; in val and in train: {manifest.val_in_train:,}",
    ]
    for name, split in manifest.splits.items():
        lines += ["", f"{name}: documents by tokens", *_bars(split)]
    return "\n".join(lines)


def _figures(split: Split) -> dict[str, str]:
    """A split's column of the table."""
    text_tokens = split.tokens - split.documents
    middle = bisect_right(list(accumulate(split.lengths)), (split.documents - 1) // 2)
    return {
        "documents": f"{split.documents:,}",
        "duplicates": f"{split.duplicates:,}",
        "tokens": f"{split.tokens:,}",
        "bytes of text": f"{split.bytes:,}",
        "bytes per token": f"{split.bytes / text_tokens:.3f}",
        "mean tokens": f"{text_tokens / split.documents:.1f}",
        "median tokens": _bin_name(middle),
        "shards": f"{len(split.shards):,}",
    }


def _bars(split: Split) -> list[str]:
    """A histogram's lines, without empty bins at its ends."""
    first = next(i for i, count in enumerate(split.lengths) if count)
    scale = BAR_WIDTH / max(split.lengths)
    return [
        f"{_bin_name(i):>22} {split.lengths[i]:>14,} {'█' * round(scale * split.lengths[i])}".rstrip()
        for i in range(first, len(split.lengths))
    ]


def _bin_name(i: int) -> str:
    """The range of lengths that a bin of `histogram` counts."""
    return f"{2**i:,}–{2 ** (i + 1) - 1:,}" if i else "1"


def main() -> None:
    """Runs the commands."""
    parser = argparse.ArgumentParser(prog="python -m gpt2.shards", description="Token shards.")
    commands = parser.add_subparsers(required=True)
    for work, help in ((verify, "compare shards with their manifest, checksums included"), (stats, "what they hold")):
        command = commands.add_parser(work.__name__, help=help)
        command.add_argument("directory", type=Path, help="for example data/tokens")
        command.set_defaults(work=work)
    arguments = parser.parse_args()
    try:
        print(arguments.work(arguments.directory))
    except InputError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
