"""The perplexity of a checkpoint, ours or one of transformers, on texts:

    python -m gpt2 perplexity --model data/models/pretrain book.txt
    python -m gpt2 perplexity --model data/models/pretrain data/raw/corpus/part.parquet --column text

A table (parquet, JSON, csv, tsv) holds a document in each row, and each is scored by itself: so the figures depend
neither on the order of the rows nor on what happens to stand before a document. Any other file is one document.
"""

import argparse
import codecs
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from gpt2.commands.cli import Parser, run
from gpt2.common.errors import InputError
from gpt2.common.progress import bar
from gpt2.evaluation.perplexity import Likelihood, score
from gpt2.model.checkpoint import load_with_tokenizer
from gpt2.runtime.device import autocast_dtype
from gpt2.sources.tables import SUFFIXES, read_rows, text_of

READ_BYTES = 1 << 20  # of a text at a time


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    args = _parser().parse_args(argv)
    return run(lambda: _print_perplexity(args))


def _print_perplexity(args: argparse.Namespace) -> None:
    model, tokenizer = load_with_tokenizer(args.model)
    block_size = model.config.block_size
    stride = block_size // 2 if args.stride is None else args.stride
    if not 0 < stride < block_size:
        raise InputError(f"--stride = {stride}: expected 1 to {block_size - 1}, less than the model's context")
    dtype = autocast_dtype(args.precision, model.wte.weight.device)
    sizes = [sum(len(part.encode()) for part in parts) for parts in documents(args.file, args.column)]
    if not any(sizes):
        raise InputError(f"{args.file}: holds no text")
    with bar(total=sum(sizes), desc="scored", unit="B", unit_scale=True) as progress:
        found = score(model, tokenizer, documents(args.file, args.column), stride, dtype, progress)
    how = {"documents": sum(map(bool, sizes)), "block_size": block_size, "stride": stride}
    _print(found, how | {"precision": "bfloat16" if dtype else "float32"}, args.json)


def _print(found: Likelihood, how: dict, as_json: bool) -> None:
    figures = {name: getattr(found, name) for name in ("nats_per_token", "bits_per_byte", "perplexity")}
    counts = {"tokens": found.tokens, "bytes": found.bytes}
    if as_json:
        print(json.dumps(figures | counts | how))
        return
    alone = ", each scored by itself" if how["documents"] > 1 else ""
    print(f"documents: {how['documents']:,}{alone}, after <|endoftext|>")
    print(f"windows of {how['block_size']:,} tokens, stride {how['stride']:,}, {how['precision']}\n")
    for name, value in figures.items():
        print(f"{name.replace('_per_', ' a '):14}{value:14,.4f}")
    for name, value in counts.items():
        print(f"{name:14}{value:14,}")


def documents(path: Path, column: str | None) -> Iterator[Iterable[str]]:
    """The documents of a file, each in parts; `column` None: text, where the file is a table.

    Raises InputError naming file and place for what is no file, no table, no text or not UTF-8.
    """
    if not path.is_file():
        raise InputError(
            f"{path}: {'expected a regular file, which is read twice' if path.exists() else 'no such file'}"
        )
    if path.suffix in SUFFIXES:
        name = "text" if column is None else column
        for number, row in enumerate(read_rows(path, str(path)), start=1):
            yield [text_of(row, name, f"{path}, row {number}")]
    elif column is not None:
        raise InputError(f"--column = {column!r}: only tables have columns ({', '.join(SUFFIXES)}), not {path}")
    else:
        yield _parts(path)


def _parts(path: Path) -> Iterator[str]:
    """A text file, some bytes at a time."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")()  # a byte order mark is no text
    with open(path, "rb") as file:
        try:
            while data := file.read(READ_BYTES):
                yield decoder.decode(data)
            yield decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            place = file.tell() - len(error.object) + error.start
            wanted = f"expected a text, or a table ({', '.join(SUFFIXES)})"
            raise InputError(f"{path}: not UTF-8 at byte {place}: {wanted}") from None


def _parser() -> Parser:
    parser = Parser(prog="python -m gpt2 perplexity", description="How well a model predicts texts.")
    add = parser.add_argument
    add("--model", type=Path, required=True, metavar="DIR", help="checkpoint directory with its tokenizer")
    add("file", type=Path, metavar="FILE", help="a text; or a table, with a document in each row")
    add("--column", metavar="NAME", help="where a table has its texts; default: text")
    add("--stride", type=int, metavar="N", help="tokens that a window adds; default: half the model's context")
    add("--precision", choices=("auto", "float32", "bfloat16"), default="auto", help="of matrix products")
    add("--json", action="store_true", help="print one JSON object")
    return parser
