"""What commands share: whatever goes wrong that is not a bug is one line on standard error, and status 1."""

import argparse
import math
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from gpt2.common.errors import InputError


class Parser(argparse.ArgumentParser):
    """Answers a wrong flag as any other mistake: one line and status 1, without repeating the usage."""

    def error(self, message: str):
        self.exit(1, f"error: {message}\n")


def argument_text(argument: str) -> str:
    """A text from the command line: what was not UTF-8, of which Python makes lone surrogates, becomes U+FFFD."""
    return os.fsencode(argument).decode(errors="replace")


def within(kind: type, low: float, high: float = math.inf) -> Callable[[str], float]:
    """An argparse type: an int or float from `low` to `high`."""
    wanted = f"{kind.__name__} of at least {low}" if high == math.inf else f"{kind.__name__} from {low} to {high}"

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r}: expected {wanted}")
        return value

    return parse


def check_out(path: Path) -> None:
    """Raises InputError unless --out names a file, there or to be made, in a directory that is there."""
    if not path.parent.is_dir() or (path.exists() and not path.is_file()):
        raise InputError(f"--out = {path}: expected a file in a directory that is there")


def run(work: Callable[[], None]) -> int:
    """Does a command's work; returns its exit status. Of several processes the first alone says what is wrong."""
    try:
        work()
        sys.stdout.flush()
    except InputError as error:
        if os.environ.get("RANK", "0") == "0":
            print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:  # a file that may not be read; a disk on which there is no room for what is printed
        print(f"error: {error.filename or 'standard output'}: {error.strerror or error}", file=sys.stderr)
        sys.stdout = None  # what is left of it could not be written at exit either
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def start(main: Callable[[], int]) -> None:
    """Runs a command's main function as a process of its own, and ends it."""
    sys.stdout.reconfigure(encoding="utf-8")  # whatever the locale: texts may hold any character
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends the command without a word
    sys.exit(main())
