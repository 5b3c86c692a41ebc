"""A page on which to look at every head of GPT-2 checkpoints, ours or those of transformers, on prompts of yours:

    python -m gpt2 attention --model data/models/pretrain --prompt "The cat sat and sat." --out attention.html

Several models and prompts may be given. The page is one file, and needs no network.
"""

import argparse
from pathlib import Path

from gpt2.commands.cli import Parser, argument_text, check_out, run, within
from gpt2.common.errors import InputError
from gpt2.common.files import write_text
from gpt2.interpret.heads import explore, viewer_data
from gpt2.model.checkpoint import load_with_tokenizer
from gpt2.report.page import explorer


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    args = _parser().parse_args(argv)
    return run(lambda: _write_page(args))


def _write_page(args: argparse.Namespace) -> None:
    check_out(args.out)
    if twice := [str(model) for number, model in enumerate(args.model) if model in args.model[:number]]:
        raise InputError(f"--model {twice[0]}: given twice")
    prompts = [argument_text(prompt) for prompt in args.prompt]
    models = []
    for directory in args.model:
        name = argument_text(str(directory))
        models.append(explore(name, name, *load_with_tokenizer(directory, "cpu"), prompts, args.seed, "--prompt"))
    write_text(args.out, explorer("Attention, head by head", viewer_data(models)))


def _parser() -> Parser:
    parser = Parser(prog="python -m gpt2 attention", description="A page of what each head of GPT-2s attends to.")
    add = parser.add_argument
    add(
        "--model",
        type=Path,
        action="append",
        required=True,
        metavar="DIR",
        help="checkpoint directory with its tokenizer; again for another model beside it",
    )
    add(
        "--prompt",
        action="append",
        required=True,
        metavar="TEXT",
        help="what the models read, 3 to 128 tokens; again for another",
    )
    add("--out", type=Path, required=True, metavar="FILE", help="the page to write")
    add(
        "--seed",
        type=within(int, 0, 2**62),
        default=1337,
        metavar="N",
        help="of the random tokens that scores are measured on; default: %(default)s",
    )
    return parser
