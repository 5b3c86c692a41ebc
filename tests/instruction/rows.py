"""Instructions for tests."""

from tests.small import byte_tokenizer

TOKENIZER = byte_tokenizer()
BLOCK = 256
ROWS = [
    {"instruction": "Repeat.", "input": "abc", "output": "abc"},
    {"instruction": "Greet.", "input": "", "output": "Good morning to you all."},
]
LONG = {"instruction": "Tell.", "input": "", "output": "x" * 300}
