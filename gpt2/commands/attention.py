"""Writes a page that shows every attention head of GPT-2 checkpoints, ours or transformers', on your prompts:

    python -m gpt2 attention --model data/models/pretrain --prompt "The cat sat and sat." --out attention.html

--model and --prompt may be repeated. The page is one file and needs no network.
"""

import argparse
from pathlib import Path

from gpt2.commands.cli import PROGRAM, Parser, argument_text, check_out, within
from gpt2.common.errors import InputError
from gpt2.common.files import write_text
from gpt2.interpret.heads import encode_prompts, read_attention, viewer_data
from gpt2.model.checkpoint import load_with_tokenizer
from gpt2.report.page import explorer


def main(args: argparse.Namespace) -> None:
    """Runs the command."""
    check_out(args.out)
    for model in args.model:
        if args.model.count(model) > 1:
            raise InputError(f"--model {model}: given twice")
    prompts = [argument_text(prompt) for prompt in args.prompt]
    models = []
    for directory in args.model:
        name = argument_text(str(directory))
        model, tokenizer = load_with_tokenizer(directory, "cpu")
        encoded = encode_prompts(prompts, model, tokenizer, "--prompt")
        models.append(read_attention(name, name, model, tokenizer, encoded, args.seed))
    write_text(args.out, explorer("Attention, head by head", viewer_data(models)))


def parser() -> Parser:
    parser = Parser(prog=f"{PROGRAM} attention", description="Writes a page that shows every attention head.")
    add = parser.add_argument
    model = "checkpoint directory with its tokenizer; may be repeated"
    prompt = "a text of 3 or more tokens, of which the models read the first 128; may be repeated"
    seed = "seed for the random tokens on which heads are scored; default: %(default)s"
    add("--model", type=Path, action="append", required=True, metavar="DIR", help=model)
    add("--prompt", action="append", required=True, metavar="TEXT", help=prompt)
    add("--out", type=Path, required=True, metavar="FILE", help="the page to write")
    add("--seed", type=within(int, 0, 2**62), default=1337, metavar="N", help=seed)
    return parser
