"""An error is one printable line, whatever the file that it quotes contains."""

import pickle

from gpt2.common.errors import LONGEST, InputError


def test_unprintable_characters_are_escaped_and_long_messages_cut():
    message = str(InputError("label 'a\nb\x1b[31m\u202e\ud800 naïve 日本' " + "x" * 10_000))
    assert message.startswith(r"label 'a\nb\x1b[31m\u202e\ud800 naïve 日本' xxx") and message.endswith("x ...")
    assert len(message) < LONGEST + 50
    message.encode()


def test_pickling_keeps_the_message():
    error = InputError("row 3: a\tb")
    assert str(pickle.loads(pickle.dumps(error))) == str(error) == r"row 3: a\tb"
