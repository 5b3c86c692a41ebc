"""Looks at a directory of token shards:

python -m gpt2 shards verify data/tokens   # compares it with its manifest, checksums included
python -m gpt2 shards stats data/tokens    # prints what it holds
"""

from bisect import bisect_right
from itertools import accumulate
from pathlib import Path

import numpy as np

from gpt2.commands.cli import Parser, run
from gpt2.common.errors import InputError
from gpt2.common.files import sha256
from gpt2.common.progress import bar
from gpt2.tokens.shards import MANIFEST, Manifest, Split, histogram, open_shard, read_manifest

BAR_WIDTH = 40  # characters


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


def main(argv: list[str] | None = None) -> int:
    """Runs the commands; returns the exit status."""
    parser = Parser(prog="python -m gpt2 shards", description="Token shards.")
    commands = parser.add_subparsers(required=True)
    for work, help in ((verify, "compare shards with their manifest, checksums included"), (stats, "what they hold")):
        command = commands.add_parser(work.__name__, help=help)
        command.add_argument("directory", type=Path, help="for example data/tokens")
        command.set_defaults(work=work)
    args = parser.parse_args(argv)
    return run(lambda: print(args.work(args.directory)))
