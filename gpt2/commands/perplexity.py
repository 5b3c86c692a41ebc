"""Measures how well a checkpoint, ours or one of transformers, predicts texts:

    python -m gpt2 perplexity --model data/models/pretrain book.txt
    python -m gpt2 perplexity --model data/models/pretrain data/raw/corpus/part.parquet --column text
    tail -n 1000 book.txt | python -m gpt2 perplexity --model data/models/pretrain -

Each row of a table (parquet, JSON, csv, tsv) is one document, and documents are scored independently, so that the order
of rows does not matter. Any other file is one document. Files may be compressed (.gz, .bz2, .xz, .zst).
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from gpt2.commands.cli import PROGRAM, Parser, add_device
from gpt2.common.errors import InputError
from gpt2.common.progress import bar
from gpt2.evaluation.perplexity import score
from gpt2.model.checkpoint import load_with_tokenizer
from gpt2.runtime.device import choose_device
from gpt2.runtime.precision import DTYPES, resolve
from gpt2.sources.tables import SUFFIXES, is_table, read_rows, text_of, with_column
from gpt2.sources.text import PLAIN, format_of, opened
from gpt2.sources.text import documents as plain_text


def main(args: argparse.Namespace) -> None:
    """Runs the command."""
    model, tokenizer = load_with_tokenizer(args.model, choose_device(args.device))
    block_size = model.config.block_size
    stride = block_size // 2 if args.stride is None else args.stride
    if block_size < 2:
        raise InputError(f"{args.model}: its context of {block_size} token is too short: expected 2 or more")
    if not 0 < stride < block_size:
        raise InputError(f"--stride = {stride}: expected 1 to {block_size - 1}, less than the model's context")
    precision = resolve(args.precision, model.wte.weight.device)
    with bar(desc="scored", unit="B", unit_scale=True, delay=1) as progress:  # early errors appear without a bar
        found = score(model, tokenizer, documents(args.file, args.column), stride, precision, progress)
    if not found.tokens:
        raise InputError(f"{args.file}: contains no text")
    settings = {"block_size": block_size, "stride": stride, "precision": precision}
    metrics = {name: getattr(found, name) for name in ("nats_per_token", "bits_per_byte", "perplexity")}
    counts = {"tokens": found.tokens, "bytes": found.bytes}
    if args.json:
        print(json.dumps(metrics | counts | {"documents": found.documents} | settings))
        return
    independent = ", scored independently" if found.documents > 1 else ""
    print(f"documents: {found.documents:,}{independent}, each after <|endoftext|>")
    print(f"windows of {block_size:,} tokens, stride {stride:,}, {settings['precision']}\n")
    for name, value in metrics.items():
        print(f"{name.replace('_', ' '):16}{value:14,.4f}")
    for name, value in counts.items():
        print(f"{name:16}{value:14,}")


def documents(path: Path, column: str | None) -> Iterator[str]:
    """Yields the documents of a file; - is standard input. The column of a table is `text` by default.

    Raises InputError naming the file and the place if it is neither a table nor UTF-8 text. Prints a note for a suffix
    that is neither that of a table nor that of a text.
    """
    if is_table(path):
        column = column or "text"
        for number, row in enumerate(with_column(read_rows(path, str(path)), column, str(path)), start=1):
            if text := text_of(row, column, f"{path}, row {number}"):
                yield text
    elif column is not None:
        raise InputError(f"--column = {column!r}: only tables have columns ({', '.join(SUFFIXES)}), not {path}")
    else:
        if format_of(path) not in ("", *PLAIN):
            print(f"note: {path} is read as one text; tables end in {', '.join(SUFFIXES)}", file=sys.stderr)
        yield from plain_text(sys.stdin.buffer if str(path) == "-" else opened(path), str(path), "file")


def parser() -> Parser:
    parser = Parser(prog=f"{PROGRAM} perplexity", description="Measures how well a model predicts texts.")
    add = parser.add_argument
    add("--model", type=Path, required=True, metavar="DIR", help="checkpoint directory with its tokenizer")
    add("file", type=Path, metavar="FILE", help="a text, a table with one document per row, or - for standard input")
    add("--column", metavar="NAME", help="the column of a table that contains the texts; default: text")
    add("--stride", type=int, metavar="N", help="tokens that each window adds; default: half the model's context")
    add("--precision", choices=("auto", *DTYPES), default="auto", help="precision of matrix products")
    add_device(parser)
    add("--json", action="store_true", help="print one JSON object")
    return parser
