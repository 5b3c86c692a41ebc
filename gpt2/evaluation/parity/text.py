"""Token ids of texts that are hard for tokenizers."""

from pathlib import Path

from gpt2.evaluation.parity.cases import Case
from gpt2.tokenizer.tokenizer import Tokenizer

HOSTILE_TEXTS = (
    "",
    " ",
    "   leading and trailing   ",
    "tabs\tand\r\nline\n\n\nends\n",
    "don't, can't, WE'LL and y'all've",
    "1234567890 3.14159e-10 0xFF ½ ²³ ٣٤٥ 一二三",
    "naïve café, e\u0301 is not é; Ångström, ﬁ, ẞ",
    "日本語のテキスト 中文文本 한국어 ไทย עברית العربية हिन्दी",
    "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇺🇳",
    "zero\u200bwidth, no\u00a0break, ideographic\u3000space, next\u0085line, line\u2028separator",
    "\x00\x01\x1b[31m\x7f \ufeff \ufffd \U0010ffff",
    "<|endoftext|> spelt out, <|endof text|>, <pad> and [MASK]",
    "def f(x):\n    return {k: v**2 for k, v in x.items() if v != -1}  # ok\n",
    "a" * 300 + " " + "!?" * 100,
)


def tokenizer_case(name: str, directory: Path) -> Case:
    """Compares token ids. Neither tokenizer reads special tokens in a text: theirs needs an option for that."""
    from transformers import AutoTokenizer

    ours = Tokenizer.load(directory)
    theirs = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    differing = [text for text in HOSTILE_TEXTS if ours.encode(text) != theirs.encode(text, split_special_tokens=True)]
    share = len(differing) / len(HOSTILE_TEXTS)
    return Case(name, "token ids", "token ids of texts", len(HOSTILE_TEXTS), share, 0.0)
