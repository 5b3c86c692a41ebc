"""Continues a text or answers an instruction, and prints the text while it is generated:

    python -m gpt2 generate --model data/models/pretrain --prompt "Returns the" --temperature 0.8 --top-k 50
    python -m gpt2 generate --model data/models/instruction --instruction "Name a color." --greedy

With several samples, the first is printed token by token and the others after it.
"""

import argparse
import codecs
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

from gpt2.commands.cli import PROGRAM, Parser, add_device, argument_text, within
from gpt2.common.errors import InputError
from gpt2.generation.generate import generate
from gpt2.generation.generation_config import read_generation_config
from gpt2.generation.layout import arrange
from gpt2.generation.sampling import Sampling
from gpt2.instruction import alpaca
from gpt2.model import checkpoint
from gpt2.runtime.device import can_compile, choose_device
from gpt2.runtime.precision import DTYPES, resolve
from gpt2.tokenizer.tokenizer import Tokenizer


def main(args: argparse.Namespace) -> None:
    """Prints the first sample while all are generated in one batch, and then the others."""
    if args.input is not None and args.instruction is None:
        raise InputError("argument --input: not allowed without argument --instruction")
    compiled = args.compile and can_compile("always")
    model, tokenizer = checkpoint.load_with_tokenizer(args.model, choose_device(args.device))
    device = model.wte.weight.device
    precision = "float32" if args.precision == "auto" and device.type == "cpu" else args.precision
    model.to(DTYPES[resolve(precision, device)])
    if device.type == "cpu":
        arrange(model, args.samples)
    prompt, shown = _prompt(args)
    settings = read_generation_config(args.model, tokenizer.eot, model.config.vocab_size)
    for setting in settings.unread:
        print(f"note: {setting} is not applied; the options of this command decide", file=sys.stderr)
    ids = tokenizer.encode_prompt(prompt) or [settings.start]
    if len(ids) > (limit := model.config.block_size):
        print(f"note: the model sees the last {limit} of the prompt's {len(ids)} tokens", file=sys.stderr)
    steps = generate(
        model,
        [ids],
        args.new_tokens,
        Sampling(args.temperature, args.top_k, args.top_p, args.repetition_penalty),
        seed=args.seed,
        samples=args.samples,
        stop=settings.stop,
        compiled=compiled,
    )
    headers = [f"--- sample {i + 1} of {args.samples} ---\n" if args.samples > 1 else "" for i in range(args.samples)]
    print(headers[0] + shown, end="", flush=True)
    rest = [header + shown for header in headers[1:]]
    for first, *others in _decode(tokenizer, steps, args.samples, settings.stop):
        print(first, end="", flush=True)
        rest = [text + piece for text, piece in zip(rest, others, strict=True)]
    print("", *rest, sep="\n")


def _prompt(args: argparse.Namespace) -> tuple[str, str]:
    """Returns the text that the model continues, and the part to print, which is empty for an instruction."""
    if args.instruction is not None:
        return alpaca.prompt(argument_text(args.instruction), argument_text(args.input or "")), ""
    if args.prompt == "-":
        prompt = sys.stdin.buffer.read().decode("utf-8-sig", errors="replace")
    else:
        prompt = argument_text(args.prompt or "")
    if args.prompt is not None and not prompt:
        print("note: the prompt is empty, so a new document begins", file=sys.stderr)
    return prompt, prompt


def _decode(
    tokenizer: Tokenizer, steps: Iterator[list[int]], samples: int, stop: Collection[int]
) -> Iterator[list[str]]:
    """Yields the text that each step adds to each sample. Characters split over tokens wait until they are complete."""
    decoders = [codecs.getincrementaldecoder("utf-8")(errors="replace") for _ in range(samples)]
    for tokens in steps:
        pieces = (b"" if token in stop else tokenizer.token_bytes(token) for token in tokens)
        yield [decoder.decode(piece) for decoder, piece in zip(decoders, pieces, strict=True)]
    yield [decoder.decode(b"", final=True) for decoder in decoders]


def parser() -> Parser:
    parser = Parser(prog=f"{PROGRAM} generate", description="Continues a text, or answers an instruction.")
    add, default = parser.add_argument, "default: %(default)s"
    add("--model", type=Path, required=True, metavar="DIR", help="checkpoint directory with its tokenizer")
    begin = parser.add_mutually_exclusive_group()
    begin.add_argument("--prompt", metavar="TEXT", help="text to continue; - reads standard input; default: none")
    begin.add_argument("--instruction", metavar="TEXT", help="instruction that a tuned model answers")
    add("--input", metavar="TEXT", help="text that the instruction refers to")
    add("--new-tokens", type=within(int, 1), default=64, metavar="N", help=f"maximum number of new tokens; {default}")
    heat = parser.add_mutually_exclusive_group()
    temperature = within(float, 0, 100)
    heat.add_argument("--temperature", type=temperature, default=0.8, metavar="T", help=f"0: greedy; {default}")
    heat.add_argument("--greedy", action="store_const", const=0.0, dest="temperature", help="same as --temperature 0")
    add("--top-k", type=within(int, 0), default=50, metavar="K", help=f"keep the K likeliest tokens; 0: all; {default}")
    add("--top-p", type=within(float, 0, 1), default=1.0, metavar="P", help=f"nucleus sampling; 1: off; {default}")
    penalty, repetition = within(float, 1e-3, 1e3), "above 1 makes tokens that the text already contains less likely"
    add("--repetition-penalty", type=penalty, default=1.0, metavar="R", help=f"{repetition}; {default}")
    add("--seed", type=within(int, 0, 2**62), default=1337, metavar="N", help=f"seed of the first sample; {default}")
    add("--samples", type=within(int, 1, 1000), default=1, metavar="N", help=f"number of texts; {default}")
    precisions, auto = ["auto", "float32", "bfloat16", "float16"], "auto: bfloat16 (or float16) on an NVIDIA GPU"
    add("--precision", choices=precisions, default="auto", help=f"precision of the model; {auto}, else float32")
    add_device(parser)
    add("--compile", action="store_true", help="use torch.compile: half a minute to compile, then faster")
    return parser
