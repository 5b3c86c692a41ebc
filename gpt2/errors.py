"""The one exception for what a user can put right."""


class InputError(ValueError):
    """A param, file or row that the user gave is wrong.

    The message is one line that names the key, file or row, its value, and what was expected. Commands and stages
    print it without a traceback and exit with status 1; any other exception is a bug of ours and keeps its traceback.
    """
