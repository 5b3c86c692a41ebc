"""An error is one line, whatever stands in the file that it is about."""

import pickle

from gpt2.common.errors import LONGEST, InputError


def test_what_does_not_print_is_spelt_out_and_a_long_message_is_cut():
    said = str(InputError("label 'a\nb\x1b[31m\u202e\ud800 naïve 日本' " + "x" * 10_000))
    assert said.startswith(r"label 'a\nb\x1b[31m\u202e\ud800 naïve 日本' xxx") and said.endswith("x ...")
    assert len(said) < LONGEST + 50
    said.encode()


def test_it_comes_back_from_another_process_as_it_was():
    error = InputError("row 3: a\tb")
    assert str(pickle.loads(pickle.dumps(error))) == str(error) == r"row 3: a\tb"
