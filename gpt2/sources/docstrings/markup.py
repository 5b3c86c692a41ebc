"""Turns inline markup into plain words, cuts plain words into sentences, and tells prose from the rest."""

import re
from collections.abc import Sequence
from itertools import groupby

ROLE = re.compile(r":[\w:+-]+:`([^`]*)`")
LINK = re.compile(r"`([^`<]+?)\s*<[^`>]+>`_{0,2}")
QUOTED = re.compile(r"``([^`]+)``|`([^`]+)`_{0,2}")
MATHS = re.compile(r"\$([^$\n]{1,80})\$")
STRONG = re.compile(r"(?<![\w*])(\*{1,2})(?=[^\s*])([^*\n]*[^\s*])\1(?![\w*])")
FOOTNOTE = re.compile(r"\[(#?\w+)\]_")

COMMAND = re.compile(r"\\([A-Za-z]+) ?")
FONT = re.compile(r"math[a-z]+|text[a-z]*|operatorname|boldsymbol|rm")
LETTER = re.compile(
    "(?i:alpha|beta|gamma|delta|epsilon|zeta|eta|theta|iota|kappa|lambda|mu|nu|xi|pi|rho|sigma|tau|phi|chi|psi|omega)"
    "|var[a-z]+|log|exp|sin|cos|tan|min|max|det|arg"
)
SYMBOLS = dict(le="<=", leq="<=", ge=">=", geq=">=", ne="!=", neq="!=", to="->", cdot="*", times="x", infty="infinity")
SYMBOLS |= dict.fromkeys(["dots", "ldots", "cdots"], "...") | {"in": "in"}

ABBREVIATION = re.compile(r"\b(?:e\.g|i\.e|cf|vs|eqs?|figs?|refs?|al|approx|resp|dr|mr|prof|vol|pp)\.$", re.IGNORECASE)
SENTENCE_END = re.compile(r"(?<=[.!?])([\"')\]]{0,2})\s+(?=[\"'(\[]?[A-Z])")
FINISHED = re.compile(r"[.!?][\"')\]]{0,2}$")
WORD = re.compile(r"(?<!\S)[\"'(\[]*[A-Za-z][\w'’./-]*[\"')\],.;:!?]*(?!\S)")
# Prose contains no control characters or braces, and no remains of templates, addresses, rules and notes.
MARKUP = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\\{}`$]")
REMAINS = re.compile(
    r"%\(|%s\b|>>>|::|://|www\.|@\w|\|\w+\||__\w+__|sphx_|TODO|FIXME|XXX|====|----|____|~~~~|\*\*\*\*|####"
)


def plain(text: str) -> str:
    """Text without roles, links, quotes of code, emphasis and simple LaTeX, on one line."""
    text = " ".join(text.split())
    if "`" in text:
        text = QUOTED.sub(_quoted, LINK.sub(r"\1", ROLE.sub(_role, text)))
    text = MATHS.sub(lambda match: _maths(match[1]), text)
    text = FOOTNOTE.sub(r"[\1]", STRONG.sub(r"\2", text))
    return re.sub(r" ([.,;:])(?= |$)", r"\1", " ".join(text.split()))


def sentences(text: str) -> list[str]:
    """Cuts plain text where a sentence ends and a capital follows, but not after an abbreviation."""
    parts, start = [], 0
    for match in SENTENCE_END.finditer(text):
        part = text[start : match.end(1)]
        if not ABBREVIATION.search(part):
            parts.append(part)
            start = match.end()
    return [*parts, text[start:]] if text[start:] else parts


def unbroken(parts: Sequence[str], kept: Sequence[bool]) -> list[str]:
    """Joins the sentences of each run that are kept; one that is not kept ends a run."""
    runs = groupby(zip(parts, kept, strict=True), key=lambda pair: pair[1])
    return [" ".join(part for part, _ in run) for keep, run in runs if keep]


def is_prose(sentence: str) -> bool:
    """Whether a sentence consists of words: no remains of markup or code, and few tokens that are not words."""
    if MARKUP.search(sentence) or REMAINS.search(sentence) or sentence.startswith(("#", "=")):
        return False
    return len(WORD.findall(sentence)) >= 0.7 * len(sentence.split()) > 1


def _role(match: re.Match) -> str:
    """:class:`~a.b.C` -> C, :ref:`text <label>` -> text, :math:`x_{i}` -> x_i."""
    if match[0].startswith(":math"):
        return _maths(match[1])
    return _target(re.sub(r"\s*<[^>]*>$", "", match[1]))


def _quoted(match: re.Match) -> str:
    if "\\" in match[0]:
        return _maths(match[1] or match[2])
    return match[1] or _target(match[2])


def _target(text: str) -> str:
    """The text that Sphinx shows for a reference: ~a.b.C -> C, .C -> C, !x -> x."""
    return text.rsplit(".", 1)[-1] if text.startswith("~") else text.lstrip("!.")


def _maths(text: str) -> str:
    """LaTeX in plain characters; a command without a short word stays, and `is_prose` then rejects the sentence."""
    text = re.sub(r"\\[,;:! ]", " ", text)
    text = COMMAND.sub(_command, text)
    return re.sub(r"\s+", " ", re.sub(r"\{([^{}\\]*)\}", r"\1", text)).strip()


def _command(match: re.Match) -> str:
    name = match[1]
    if FONT.fullmatch(name):
        return ""
    word = name if LETTER.fullmatch(name) else SYMBOLS.get(name)
    return f"{word} " if word else match[0]
