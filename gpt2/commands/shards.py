"""Checks or describes a directory of token shards:

python -m gpt2 shards verify data/tokens   # compares the files with the manifest, including checksums
python -m gpt2 shards stats data/tokens    # prints totals and document lengths of each split
"""

import argparse
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path

import numpy as np

from gpt2.commands.cli import PROGRAM, Parser
from gpt2.common.errors import InputError
from gpt2.common.files import sha256
from gpt2.common.progress import bar
from gpt2.tokens.shards import MANIFEST, Manifest, Split, histogram, open_shard, read_manifest

BAR_WIDTH = 40  # characters


def verify(directory: Path) -> str:
    """Reads every byte and compares it with the manifest; returns a line with the totals.

    Does not check bytes, duplicates, empty, invalid_utf8 and val_in_train, which shards do not contain. Raises
    InputError naming the first shard that differs from the manifest or is not in it, or the split whose totals differ.
    """
    manifest = _read_splits(directory)
    listed = {shard.file for split in manifest.splits.values() for shard in split.shards}
    if others := sorted({path.name for path in directory.glob("*.npy")} - listed):
        raise InputError(f"{directory / others[0]}: not in the manifest")
    lines = []
    for name, split in manifest.splits.items():
        starts, end = [], 0  # places of <|endoftext|> in the stream, and the number of tokens so far
        eot = open_shard(directory, split.shards[0])[0]  # every document begins with it
        for shard in bar(split.shards, desc=name, unit="shard"):
            tokens, digest = open_shard(directory, shard), sha256(directory / shard.file)
            if digest != shard.sha256:
                raise InputError(f"{directory / shard.file}: sha256 {digest}, the manifest says {shard.sha256}")
            starts.append(np.flatnonzero(tokens == eot) + end)
            end += len(tokens)
        lengths = histogram(np.diff(np.concatenate(starts), append=end) - 1)
        counted = {
            "documents": int(lengths.sum()),
            "tokens": end,
            "lengths": tuple(np.trim_zeros(lengths, "b").tolist()),
        }
        for key, value in counted.items():
            if getattr(split, key) != value:
                where = f"{directory / MANIFEST}: splits.{name}.{key}"
                raise InputError(f"{where} = {getattr(split, key)}, but the shards contain {value}")
        lines.append(f"{name}: {split.documents:,} documents, {split.tokens:,} tokens, shards: {len(split.shards)}")
    return f"ok: {'; '.join(lines)}"


def stats(directory: Path) -> str:
    """A table of each split's totals in the manifest, and a histogram of its document lengths.

    Raises InputError if the totals contradict each other.
    """
    manifest = _read_splits(directory)
    for name, split in manifest.splits.items():
        if sum(split.lengths) != split.documents or split.tokens <= split.documents:
            where = f"{directory / MANIFEST}: splits.{name}"
            raise InputError(f"{where}: documents, tokens and lengths contradict each other")
    columns = {name: _figures(split) for name, split in manifest.splits.items()}
    lines = [f"{'':22}" + "".join(f"{name:>18}" for name in columns)]
    for label in next(iter(columns.values())):
        lines.append(f"{label:22}" + "".join(f"{column[label]:>18}" for column in columns.values()))
    lines += [
        "",
        f"vocabulary of {manifest.vocab_size:,}; left out as empty: {manifest.empty:,}; "
        f"not UTF-8: {manifest.invalid_utf8:,}; in val and in train: {manifest.val_in_train:,}"
        + ("; val is blocks within documents" if manifest.heldout else ""),
    ]
    for name, split in manifest.splits.items():
        lines += ["", f"{name}: documents by tokens", *_bars(split.lengths)]
    return "\n".join(lines)


def _read_splits(directory: Path) -> Manifest:
    """The manifest. Raises InputError if it has no split."""
    manifest = read_manifest(directory)
    if not manifest.splits:
        raise InputError(f"{directory / MANIFEST}: splits is empty")
    return manifest


def _figures(split: Split) -> dict[str, str]:
    """A split's column of the table."""
    text_tokens = split.tokens - split.documents
    median = bisect_right(list(accumulate(split.lengths)), (split.documents - 1) // 2)
    return {
        "documents": f"{split.documents:,}",
        "duplicates": f"{split.duplicates:,}",
        "tokens": f"{split.tokens:,}",
        "bytes of text": f"{split.bytes:,}",
        "bytes per token": f"{split.bytes / text_tokens:.3f}",
        "mean tokens": f"{text_tokens / split.documents:.1f}",
        "median tokens": _bin_name(median),
        "shards": f"{len(split.shards):,}",
    }


def _bars(lengths: tuple[int, ...]) -> list[str]:
    """The lines of a histogram, without the empty bins at its start."""
    first, scale = next(i for i, count in enumerate(lengths) if count), BAR_WIDTH / max(lengths)
    return [
        f"{_bin_name(i):>22} {count:>14,} {'█' * round(scale * count)}".rstrip()
        for i, count in enumerate(lengths)
        if i >= first
    ]


def _bin_name(i: int) -> str:
    """The range of lengths that a bin of `histogram` counts."""
    return f"{2**i:,}–{2 ** (i + 1) - 1:,}" if i else "1"


def main(args: argparse.Namespace) -> None:
    """Runs the command."""
    print(args.work(args.directory))


def parser() -> Parser:
    parser = Parser(prog=f"{PROGRAM} shards", description="Verifies or describes token shards.")
    commands = parser.add_subparsers(required=True)
    for work, help in ((verify, "compare shards with their manifest, including checksums"), (stats, "print totals")):
        command = commands.add_parser(work.__name__, help=help)
        command.add_argument("directory", type=Path, help="for example data/tokens")
        command.set_defaults(work=work)
    return parser
