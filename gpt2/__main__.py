"""Runs a command: `python -m gpt2 generate ...`; `python -m gpt2 --help` lists them."""

import sys
from functools import partial

from gpt2.commands.cli import run, start

COMMANDS = {  # each is a module of gpt2/commands, imported only when it runs
    "generate": "continue a text, or answer an instruction",
    "classify": "label texts",
    "perplexity": "measure how well a model predicts texts",
    "hellaswag": "score a model on HellaSwag",
    "attention": "write a page that shows what each head attends to",
    "shards": "verify token shards, or show their totals",
}


def main(argv: list[str]) -> int:
    """Runs the command that the first argument names; returns its exit status."""
    name, *arguments = argv or ["--help"]
    if name in ("-h", "--help"):
        lines = (f"  {command:<12}{what}" for command, what in COMMANDS.items())
        print("usage: python -m gpt2 COMMAND ...\n", *lines, "\npython -m gpt2 COMMAND --help: its options", sep="\n")
        return 0
    if name not in COMMANDS:
        print(f"error: {name!r}: no such command; expected one of {', '.join(COMMANDS)}", file=sys.stderr)
        return 1
    return run(name, arguments)


if __name__ == "__main__":
    start(partial(main, sys.argv[1:]))
