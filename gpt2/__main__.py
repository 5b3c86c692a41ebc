"""Runs a command: `python -m gpt2 generate ...`; `python -m gpt2 --help` lists them."""

import sys
from functools import partial

from gpt2.commands.cli import PROGRAM, run, start

COMMANDS = {  # each is a module of gpt2/commands, imported only when it runs
    "generate": "continue a text, or answer an instruction",
    "classify": "label texts",
    "perplexity": "measure how well a model predicts texts",
    "hellaswag": "score a model on HellaSwag",
    "attention": "write a page that shows what each head attends to",
    "export": "copy an adapter together with its base model, for peft",
    "shards": "verify token shards, or show their totals",
    "import": "write another GPT-2 checkpoint in the plain layout",
}


def main(argv: list[str]) -> int:
    """Runs the command that the first argument names; returns its exit status."""
    name, *arguments = argv or ["--help"]
    if name in ("-h", "--help"):
        lines = (f"  {command:<12}{what}" for command, what in COMMANDS.items())
        print(f"usage: {PROGRAM} COMMAND ...\n", *lines, f"\n{PROGRAM} COMMAND --help: its options", sep="\n")
        return 0
    if name not in COMMANDS:
        print(f"error: {name!r}: no such command; expected one of {', '.join(COMMANDS)}", file=sys.stderr)
        return 1
    return run(name, arguments)


def command() -> None:
    """Runs the arguments of this process. The script gpt2-lab, which pip installs, calls it."""
    start(partial(main, sys.argv[1:]))


if __name__ == "__main__":
    command()
