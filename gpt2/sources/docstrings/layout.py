"""Cuts docstrings into headings, paragraphs, list items and entries, and leaves out what is not prose.

Docstrings mix sentences with doctests, equations, tables, directives and lists of fields, in several dialects
(reStructuredText, numpydoc, Sphinx fields, Google). This module parses only as much as it needs to separate them.
"""

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

# Sections by lower-case title. An entry is a name, often with a type, followed by an indented description.
LEFT_OUT = {
    *("example", "examples", "example usage", "usage", "demo", "doctest", "doctests", "call signature"),
    *("call signatures", "reference", "references", "bibliography", "see also", "seealso", "methods", "author"),
    *("authors", "copyright", "license", "todo", "functions", "classes", "contents", "contains", "link", "links"),
}
RESULTS = {"returns", "return", "yields", "yield"}
ENTRIES = RESULTS | {
    *("parameters", "parameter", "other parameters", "arguments", "args", "keyword arguments", "keywords", "kwargs"),
    *("attributes", "raises", "warns", "receives", "options", "input", "output", "inputs", "outputs"),
}
KNOWN = LEFT_OUT | ENTRIES

# Directives that contain sentences, and directives without which the text around them is complete.
ADMONITIONS = {"note", "notes", "warning", "warn", "tip", "hint", "important", "caution", "attention", "admonition"}
ASIDES = {"versionadded", "versionchanged", "versionremoved", "deprecated", "seealso", "legacy", "index", "rubric"}

DIRECTIVE = re.compile(r"\.\.\s?([\w+:-]+?)\s?::\s*(.*)")
UNDERLINE = re.compile(r"\s*([-=~^*#+\"'`.:_])\1{2,}\s*")
TABLE = re.compile(r"\s*(?:[=-]{2,}(?: +[=-]{2,})+|\+[-=+]{3,}|\|.*\|)\s*")
BULLET = re.compile(r"(?:[-*+•]|\(?(?:\d{1,2}|[a-z]|[ivx]{1,4})\)|\d{1,2}\.)\s+(?=\S)")
FIELD = re.compile(r":(\w+)(?:\s+([^:]*))?:(?:\s+|$)")
TERM = re.compile(r"(\S.{0,60}?)\s*:(?:\s+(.*))?")
NAME = re.compile(r"[*\w]+(?: \([^)]*\))?:\s")
GAP_LINE = "\0"


@dataclass(frozen=True)
class Block:
    """A stretch of a docstring. kind: heading, text, item (of a list), entry, or gap (something was left out)."""

    kind: str
    text: str = ""


def blocks(docstring: str) -> Iterator[Block]:
    """Cuts a docstring at blank lines, headings and gaps."""
    lines = [*_lines(docstring), ""]
    section, start = "", 0  # the current section, and the first line that is not in a block yet
    for i, line in enumerate(lines):
        title = _title(lines, i)
        if not (title or not line.strip() or line == GAP_LINE or UNDERLINE.fullmatch(line)):
            continue
        if section not in LEFT_OUT and start < i:
            yield from _group(lines[start:i], section)
        start = i + 1
        if title:
            section = title.lower()
            if section not in LEFT_OUT:
                yield Block("heading", title)
        elif line == GAP_LINE and section not in LEFT_OUT:
            yield Block("gap")


def _lines(docstring: str) -> Iterator[str]:
    """The lines of a docstring; GAP_LINE stands for each doctest, literal block, equation and other directive."""
    lines = inspect.cleandoc(docstring.replace(GAP_LINE, " ")).split("\n")
    i = 0
    while i < len(lines):
        line, text, indent = lines[i], lines[i].strip(), _indent(lines[i])
        directive = DIRECTIVE.match(text) if text.startswith("..") else None
        name = directive[1].lower() if directive else ""
        i += 1
        if text.startswith(">>>"):
            yield GAP_LINE
            i = next((j for j in range(i, len(lines)) if not lines[j].strip()), len(lines))
        elif name in ADMONITIONS:
            yield ""
            yield "" if name == "admonition" else " " * (indent + 3) + directive[2]
        elif directive or text.startswith(".. ") or text == "..":  # footnotes, targets and comments too
            yield GAP_LINE if directive and name not in ASIDES else ""
            i = _end(lines, i, indent)
        elif text.endswith("::"):
            if text != "::":
                yield line.rstrip()[:-1]
            yield GAP_LINE
            i = _end(lines, i, indent)
        else:
            yield line


def _title(lines: list[str], i: int) -> str:
    """The heading that line i is, or "": an underlined line, or the title of a known section with a colon."""
    text = lines[i].strip()
    known = text.endswith(":") and text[:-1].lower() in KNOWN
    underlined = i + 1 < len(lines) and UNDERLINE.fullmatch(lines[i + 1]) and not UNDERLINE.fullmatch(text)
    return text.rstrip(":") if known or (underlined and text != GAP_LINE and len(text) <= 70) else ""


def _group(lines: list[str], section: str) -> Iterator[Block]:
    """Cuts lines without blank lines between them into paragraphs, list items and entries."""
    if any(TABLE.fullmatch(line) for line in lines):
        yield Block("gap")
        return
    while lines:
        first, indent = lines[0].strip(), _indent(lines[0])
        below = next((i for i, line in enumerate(lines) if i and _indent(line) <= indent), len(lines))
        if _marked(first):
            size = next((i for i in range(1, below) if _marked(lines[i].strip())), below)
            yield from _marked_block(first, _joined(lines[1:size]))
        elif below > 1 and (term := _term(first, section)) is not None:
            size = below
            yield from _entry(term, lines[1:below])
        else:
            size = next((i for i in range(1, len(lines)) if _starts(lines, i, section)), len(lines))
            yield from _paragraph(lines[:size], section)
        lines = lines[size:]


def _marked(text: str) -> bool:
    return bool(BULLET.match(text) or FIELD.match(text))


def _starts(lines: list[str], i: int, section: str) -> bool:
    """Whether a new block starts at line i of a paragraph."""
    deeper = i + 1 < len(lines) and _indent(lines[i + 1]) > _indent(lines[i])
    text = lines[i].strip()
    entry = deeper or " : " in text or (section == "args" and NAME.match(text) is not None)
    return _marked(text) or (section in ENTRIES and entry)


def _marked_block(first: str, rest: str) -> Iterator[Block]:
    """A list item, or a Sphinx field such as `:param x: text`."""
    field = FIELD.match(first)
    if not field:
        yield Block("item", f"{first[BULLET.match(first).end() :]} {rest}")
        return
    kind, name, text = field[1].lower(), (field[2] or "").strip(), f"{first[field.end() :]} {rest}".strip()
    if kind in {"param", "parameter", "ivar", "cvar", "var", "keyword", "raise", "raises"} and name and text:
        yield Block("entry", f"{name.split()[-1]}: {text}")
    elif kind in {"return", "returns", "yield", "yields"} and text:
        text = text[0].lower() + text[1:] if re.match(r"(?:The|An?|Whether)\b", text) else text
        yield Block("text", f"{kind.rstrip('s').capitalize()}s {text}")


def _term(first: str, section: str) -> str | None:
    """The term that the indented lines below describe: a name, or "" for a type; None if it is in a sentence."""
    match = TERM.fullmatch(first)
    if section == "args":  # in Google's dialect the description follows on the same line
        return None
    if section in ENTRIES:
        return match[1] if match else "" if section in RESULTS else first
    if match and " : " in first:
        return match[1]
    return first if len(first.split()) <= 3 and first[-1] not in ".,;:!?" and first[0] not in "([" else None


def _entry(term: str, body: list[str]) -> Iterator[Block]:
    """The description of a term, as "term: description"."""
    found = list(_group(body, ""))
    if term and found and found[0].kind in {"text", "entry"}:
        found[0] = Block("entry", f"{term}: {found[0].text}")
    yield from (replace(block, kind="entry") if block.kind == "text" else block for block in found)


def _paragraph(lines: list[str], section: str) -> Iterator[Block]:
    """Lines of one indentation: sentences, or in a section of entries an entry on one line, `name : text`."""
    text = _joined(lines)
    match = TERM.fullmatch(text)
    if section in ENTRIES and match and " : " in text:
        text = f"{match[1]}: {match[2]}" if match[2] and len(match[2].split()) >= 4 else ""
    if text:
        yield Block("entry" if section in ENTRIES else "text", text)


def _joined(lines: list[str]) -> str:
    return " ".join(line.strip() for line in lines)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _end(lines: list[str], start: int, indent: int) -> int:
    """The first line from `start` on that is neither blank nor indented by more than `indent`."""
    return next((i for i in range(start, len(lines)) if lines[i].strip() and _indent(lines[i]) <= indent), len(lines))
