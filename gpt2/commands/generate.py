"""Continues a text, or answers an instruction, and prints it as it comes:

    python -m gpt2 generate --model data/models/pretrain --prompt "Returns the" --temperature 0.8 --top-k 50
    python -m gpt2 generate --model data/models/instruction --instruction "Name a colour." --greedy

Of several samples the first comes word by word, the others after it.
"""

import argparse
import codecs
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from gpt2.commands.cli import Parser, argument_text, run, within
from gpt2.generation.generate import encode_prompt, generate
from gpt2.generation.quantize import Precision, prepare
from gpt2.generation.sampling import Sampling
from gpt2.instruction import alpaca
from gpt2.model import checkpoint
from gpt2.runtime.device import can_compile
from gpt2.tokenizer.tokenizer import Tokenizer


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.input is not None and args.instruction is None:
        parser.error("argument --input: not allowed without argument --instruction")
    return run(lambda: _print_samples(args))


def _print_samples(args: argparse.Namespace) -> None:
    """Prints the first sample as it comes, and the others, generated beside it, after it."""
    compiled = args.compile and can_compile("always")
    model, tokenizer = checkpoint.load_with_tokenizer(args.model)
    prepare(model, args.precision, compiled=compiled)
    prompt, shown = _prompt(args)
    ids = encode_prompt(tokenizer, prompt)
    if len(ids) > (limit := model.config.block_size):
        print(f"note: the model sees the last {limit} of the prompt's {len(ids)} tokens", file=sys.stderr)
    steps = generate(
        model,
        [ids],
        args.new_tokens,
        Sampling(args.temperature, args.top_k, args.top_p, args.repetition_penalty),
        seed=args.seed,
        samples=args.samples,
        stop=[tokenizer.eot],
        compiled=compiled,
    )
    headers = [f"--- sample {i + 1} of {args.samples} ---\n" if args.samples > 1 else "" for i in range(args.samples)]
    print(headers[0] + shown, end="", flush=True)
    rest = [header + shown for header in headers[1:]]
    for first, *others in _decode(tokenizer, steps, args.samples):
        print(first, end="", flush=True)
        rest = [text + piece for text, piece in zip(rest, others, strict=True)]
    print("", *rest, sep="\n")


def _prompt(args: argparse.Namespace) -> tuple[str, str]:
    """What the model continues, and what of it is printed: of an instruction, nothing but the answer is."""
    if args.instruction is not None:
        return alpaca.prompt(argument_text(args.instruction), argument_text(args.input or "")), ""
    given = args.prompt or ""
    prompt = sys.stdin.buffer.read().decode(errors="replace") if given == "-" else argument_text(given)
    if args.prompt is not None and not prompt:
        print("note: the prompt is empty: a new document begins", file=sys.stderr)
    return prompt, prompt


def _decode(tokenizer: Tokenizer, steps: Iterator[list[int]], samples: int) -> Iterator[list[str]]:
    """The text that each step adds to each sample; a character split over tokens is held back until it is whole."""
    decoders = [codecs.getincrementaldecoder("utf-8")(errors="replace") for _ in range(samples)]
    for tokens in steps:
        read = (b"" if token == tokenizer.eot else tokenizer.token_bytes(token) for token in tokens)
        yield [decoder.decode(data) for decoder, data in zip(decoders, read, strict=True)]
    yield [decoder.decode(b"", final=True) for decoder in decoders]


def _parser() -> Parser:
    parser = Parser(prog="python -m gpt2 generate", description="Continues a text, or answers an instruction.")
    add = parser.add_argument
    add("--model", type=Path, required=True, metavar="DIR", help="checkpoint directory with its tokenizer")
    begin = parser.add_mutually_exclusive_group()
    begin.add_argument("--prompt", metavar="TEXT", help="what to continue; -: standard input; default: a new document")
    begin.add_argument("--instruction", type=_filled, metavar="TEXT", help="answer this, as a tuned model learned to")
    add("--input", metavar="TEXT", help="what the instruction is about; may be empty")
    add("--new-tokens", type=within(int, 1), default=64, metavar="N", help="at most so many; default: %(default)s")
    heat = parser.add_mutually_exclusive_group()
    heat.add_argument(
        "--temperature", type=within(float, 0, 100), default=0.8, metavar="T", help="0 is greedy; default: %(default)s"
    )
    heat.add_argument("--greedy", action="store_const", const=0.0, dest="temperature", help="as --temperature 0")
    add(
        "--top-k",
        type=within(int, 0),
        default=50,
        metavar="K",
        help="most likely tokens; 0: all; default: %(default)s",
    )
    add("--top-p", type=within(float, 0, 1), default=1.0, metavar="P", help="nucleus; default: %(default)s, all")
    add(
        "--repetition-penalty",
        type=within(float, 1e-3, 1e3),
        default=1.0,
        metavar="R",
        help="above 1 makes tokens that the text has already less likely; default: %(default)s",
    )
    add("--seed", type=within(int, 0, 2**62), default=1337, metavar="N", help="default: %(default)s")
    add("--samples", type=within(int, 1, 1000), default=1, metavar="N", help="texts, of as many seeds; default: 1")
    add("--precision", choices=get_args(Precision), default="float32", help="of the weights; default: %(default)s")
    add("--compile", action="store_true", help="with torch.compile: for long texts twice as fast, after half a minute")
    return parser


def _filled(text: str) -> str:
    """An argparse type: a text that is not blank."""
    if not text.strip():
        raise argparse.ArgumentTypeError(f"{text!r}: expected a text")
    return text
