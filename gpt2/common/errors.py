"""The exception for mistakes that a user can correct."""

LONGEST = 600  # characters of a message


class InputError(ValueError):
    """A param, file or row from the user is wrong.

    The message is one line that names the key, file or row, its value, and what was expected. Commands and stages print
    it without a traceback and exit with status 1. Any other exception is a bug and keeps its traceback. Messages quote
    files, which may hold anything: characters that are not printable are escaped, and a long message is cut.
    """

    def __init__(self, message: str):
        cut = message if len(message) <= LONGEST else f"{message[:LONGEST]} ..."
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in cut))


def first_line(error: BaseException) -> str:
    """The beginning of a message that may go on for many lines."""
    return str(error).partition("\n")[0] or type(error).__name__
