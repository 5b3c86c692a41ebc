"""The exception for mistakes that a user can correct."""

LONGEST = 600  # maximum length of a message in characters


class InputError(ValueError):
    """A param, file or row from the user is wrong.

    The message is one line that names the key, file or row, its value, and what was expected. Commands and stages print
    it without a traceback and exit with status 1. Any other exception is a bug and keeps its traceback. Messages quote
    files, which may contain anything, so unprintable characters are escaped and long messages are cut.
    """

    def __init__(self, message: str):
        cut = message if len(message) <= LONGEST else f"{message[:LONGEST]} ..."
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in cut))


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or the name of the error's type if there is no message."""
    return str(error).partition("\n")[0] or type(error).__name__


def is_out_of_memory(error: Exception) -> bool:
    """Whether it is torch's error for a GPU without free memory, by its name, since this room does not import torch."""
    return type(error).__name__ == "OutOfMemoryError"
