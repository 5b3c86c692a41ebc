"""Shared by all commands: errors that are not bugs become one line on standard error and status 1."""

import argparse
import keyword
import math
import os
import re
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from gpt2.common.errors import InputError, is_out_of_memory

SCRIPT = "gpt2-lab"  # installed by pip; on Windows it has a suffix
PROGRAM = SCRIPT if Path(sys.argv[0]).stem == SCRIPT else "python -m gpt2"  # how usage lines begin


class Parser(argparse.ArgumentParser):
    """Reports a wrong argument like any other error: one line and status 1, without the usage."""

    def error(self, message: str):
        if value := re.fullmatch(r"argument (--[a-z-]+): expected one argument", message):
            message += f"; a value that begins with - follows an equals sign: {value[1]}=-value"
        if message.endswith("required: TEXT") or re.search("unrecognized arguments: -[^-]", message):
            message += "; a text that begins with - follows --"
        self.exit(1, f"error: {message}\n")


def argument_text(argument: str) -> str:
    """Decodes a text from the command line. Bytes that are not UTF-8 become U+FFFD, not Python's lone surrogates."""
    return os.fsencode(argument).decode(errors="replace")


def within(kind: type, low: float, high: float = math.inf) -> Callable[[str], float]:
    """Returns an argparse type: an int or float from `low` to `high`."""
    expected = f"{kind.__name__} of at least {low}" if high == math.inf else f"{kind.__name__} from {low} to {high}"

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r}: expected {expected}")
        return value

    return parse


def add_device(parser: Parser) -> None:
    """Adds the option --device, which `choose_device` understands."""
    choices, auto = ("auto", "cpu", "cuda", "mps"), "auto: an NVIDIA GPU, else that of a Mac, else the CPU"
    parser.add_argument("--device", choices=choices, default="auto", help=f"where the model runs; {auto}")


def check_out(path: Path) -> None:
    """Raises InputError unless --out names an existing or new file in an existing directory."""
    if not path.parent.is_dir() or (path.exists() and not path.is_file()):
        raise InputError(f"--out = {path}: expected a file in an existing directory")


def run(command: str, arguments: list[str]) -> int:
    """Runs a command and returns its exit status. With several processes, only the first reports errors."""
    module = import_module(f"gpt2.commands.{command}" + "_" * keyword.iskeyword(command))
    args = module.parser().parse_args(arguments)
    try:
        module.main(args)
        sys.stdout.flush()
    except InputError as error:
        if os.environ.get("RANK", "0") == "0":
            print(f"error: {error}", file=sys.stderr)
        return 1
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        print("error: the memory of the GPU is full: --device cpu uses the processor", file=sys.stderr)
        return 1
    except OSError as error:  # such as a file without permission, or a full disk
        print(
            f"error: {error.filename2 or error.filename or 'standard output'}: {error.strerror or error}",
            file=sys.stderr,
        )
        sys.stdout = None  # at exit, Python would try to write the rest of the output
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def start(main: Callable[[], int]) -> None:
    """Runs a command's main function in this process, and exits with its status."""
    sys.stdout.reconfigure(encoding="utf-8")  # in any locale, because texts may contain any character
    if hasattr(signal, "SIGPIPE"):  # not on Windows
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends the command silently
    sys.exit(main())
