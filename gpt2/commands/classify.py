"""The labels of texts, from a fine-tuned classifier. As a command it prints every label with its probability:

    python -m gpt2 classify --model data/models/classification "Returns the eigenvalues of a matrix."

For `-` it reads standard input, a text a line, and answers each with a line, the likeliest label and its probability:

    cut -f 2 reviews.tsv | python -m gpt2 classify --model data/models/classification - > labels.tsv
"""

import argparse
import codecs
import sys
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from gpt2.adapters.classifier import GPTClassifier, load, predict
from gpt2.commands.cli import Parser, argument_text, run
from gpt2.common.errors import InputError
from gpt2.tokenizer.tokenizer import Tokenizer

BATCH = 32  # texts that go through the model together
CHUNK = 1 << 16  # bytes read of standard input at a time, at most


class Classifier:
    """A checkpoint directory with its tokenizer, on a GPU where there is one."""

    def __init__(self, directory: Path):
        """Raises InputError where model or tokenizer is missing or malformed, or is no classifier's."""
        model, self.labels = load(directory)
        self.tokenizer = Tokenizer.load(directory, model.transformer.config.vocab_size)
        self.model: GPTClassifier = model.to("cuda" if torch.cuda.is_available() else "cpu")
        self.block_size = model.transformer.config.block_size
        self.truncated = 0  # texts so far that were longer than the context: of those the beginning is seen

    def __call__(self, texts: list[str]) -> np.ndarray:
        """Probabilities of the K labels for n texts: (n, K) in float32."""
        ids = [self.tokenizer.encode(text) for text in texts]
        self.truncated += sum(len(text) > self.block_size for text in ids)
        return np.exp(predict(self.model, [text[: self.block_size] for text in ids], BATCH))


# --- command -------------------------------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    args = _parser().parse_args(argv)
    return run(lambda: _print_labels(args))


def _print_labels(args: argparse.Namespace) -> None:
    given = [argument_text(text) for text in args.texts]
    if "-" in given and len(given) > 1:
        raise InputError("-: expected no texts beside it, since it stands for those of standard input")
    for number, text in enumerate(given, start=1):
        if not text.strip():
            raise InputError(f"text {number} of {len(given)} = {text!r}: expected a text that is not empty")
    classifier = Classifier(args.model)
    if given == ["-"]:
        _answer_lines(classifier, sys.stdin.buffer)
    else:
        _answer_texts(classifier, given)
    if classifier.truncated:
        cut = f"{classifier.truncated} of the texts: longer than {classifier.block_size} tokens"
        print(f"note: the model sees only the beginning of {cut}", file=sys.stderr)


def _answer_texts(classifier: Classifier, texts: list[str]) -> None:
    """Prints for each text every label, the likeliest first."""
    for number, share in enumerate(classifier(texts), start=1):
        if len(texts) > 1:
            print(f"--- text {number} of {len(texts)} ---")
        for place in np.argsort(-share, kind="stable"):
            print(f"{classifier.labels[place]}\t{share[place]:.4f}")


def _answer_lines(classifier: Classifier, stream: BinaryIO) -> None:
    """Prints for each line its likeliest label, as soon as the line has come. Raises InputError at an empty one."""
    answered = 0
    for lines in _arriving(stream):
        if not answered:
            lines[0] = lines[0].removeprefix(codecs.BOM_UTF8)
        texts = list(takewhile(str.strip, (line.decode(errors="replace").rstrip("\r") for line in lines)))
        for share in classifier(texts):
            print(f"{classifier.labels[share.argmax()]}\t{share.max():.4f}")
        sys.stdout.flush()
        answered += len(texts)
        if len(texts) < len(lines):
            raise InputError(f"standard input, line {answered + 1}: expected a text that is not empty")


def _arriving(stream: BinaryIO) -> Iterator[list[bytes]]:
    """The lines of a stream, together as many as have come."""
    rest = b""
    while chunk := stream.read1(CHUNK):
        *lines, rest = (rest + chunk).split(b"\n")
        if lines:
            yield lines
    if rest:
        yield [rest]


def _parser() -> Parser:
    parser = Parser(prog="python -m gpt2 classify", description="Labels texts.")
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="a classifier with its tokenizer")
    parser.add_argument("texts", nargs="+", metavar="TEXT", help="what to label; -: the lines of standard input")
    return parser
