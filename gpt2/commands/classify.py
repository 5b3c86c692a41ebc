"""Labels texts with a fine-tuned classifier, and prints every label with its probability:

    python -m gpt2 classify --model data/models/classification "Returns the eigenvalues of a matrix."

With `-` it reads standard input, one text per line, and prints the likeliest label and its probability for each line.
A blank line is answered by a blank line, so that line n of the output always belongs to line n of the input:

    cut -f 2 reviews.tsv | python -m gpt2 classify --model data/models/classification - > labels.tsv
"""

import argparse
import codecs
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from gpt2.adapters.classifier import GPTClassifier, load, predict
from gpt2.commands.cli import PROGRAM, Parser, add_device, argument_text
from gpt2.common.errors import InputError
from gpt2.runtime.device import choose_device
from gpt2.tokenizer.tokenizer import Tokenizer

BATCH = 32  # texts that go through the model together
CHUNK = 1 << 16  # bytes read from standard input at a time, at most


class Classifier:
    """A checkpoint with its tokenizer, on a device."""

    def __init__(self, directory: Path, device: torch.device | str = "cpu"):
        """Raises InputError if model or tokenizer is missing or malformed, or if the model is not a classifier."""
        model, self.labels = load(directory)
        self.tokenizer = Tokenizer.load(directory, model.transformer.config.vocab_size)
        self.model: GPTClassifier = model.to(device)
        self.block_size = model.transformer.config.block_size
        self.truncated = 0  # texts so far that were cut to the context

    def __call__(self, texts: list[str]) -> np.ndarray:
        """Maps n texts to the probabilities of K labels: (n, K) in float32."""
        ids = [self.tokenizer.encode(text) for text in texts]
        self.truncated += sum(len(text) > self.block_size for text in ids)
        return np.exp(predict(self.model, [text[: self.block_size] for text in ids], BATCH))


# --- command -------------------------------------------------------------------------------------------------------


def main(args: argparse.Namespace) -> None:
    """Runs the command."""
    texts = [argument_text(text) for text in args.texts]
    if "-" in texts and len(texts) > 1:
        raise InputError("-: expected no other texts, because - reads them from standard input")
    for number, text in enumerate(texts, start=1):
        if not text.strip():
            raise InputError(f"text {number} of {len(texts)} = {text!r}: expected a text that is not empty")
    classifier = Classifier(args.model, choose_device(args.device))
    if texts == ["-"]:
        _answer_lines(classifier, sys.stdin.buffer)
    else:
        for number, probabilities in enumerate(classifier(texts), start=1):
            if len(texts) > 1:
                print(f"--- text {number} of {len(texts)} ---")
            for label in np.argsort(-probabilities, kind="stable"):
                print(f"{classifier.labels[label]}\t{probabilities[label]:.4f}")
    if classifier.truncated:
        cut = f"{classifier.truncated} of the texts: longer than {classifier.block_size} tokens"
        print(f"note: the model sees only the beginning of {cut}", file=sys.stderr)


def _answer_lines(classifier: Classifier, stream: BinaryIO) -> None:
    """Prints the likeliest label of each line as soon as the line arrives, and a blank line for a blank one."""
    start = codecs.BOM_UTF8
    for lines in _arriving(stream):
        lines[0] = lines[0].removeprefix(start)
        start = b""
        texts = [line.decode(errors="replace").rstrip("\r") for line in lines]
        answers = iter(classifier([text for text in texts if text.strip()]))
        for text in texts:
            if text.strip():
                probabilities = next(answers)
                print(f"{classifier.labels[probabilities.argmax()]}\t{probabilities.max():.4f}")
            else:
                print()
        sys.stdout.flush()


def _arriving(stream: BinaryIO) -> Iterator[list[bytes]]:
    """Yields the lines of a stream, in groups as they arrive."""
    rest = b""
    while chunk := stream.read1(CHUNK):
        *lines, rest = (rest + chunk).split(b"\n")
        if lines:
            yield lines
    if rest:
        yield [rest]


def parser() -> Parser:
    parser = Parser(prog=f"{PROGRAM} classify", description="Labels texts with a fine-tuned classifier.")
    add = parser.add_argument
    stdin, after = "- reads one text per line from standard input", "write -- before a text that begins with -"
    add("--model", type=Path, required=True, metavar="DIR", help="checkpoint directory with its tokenizer")
    add_device(parser)
    add("texts", nargs="+", metavar="TEXT", help=f"a text to label; {stdin}; {after}")
    return parser
