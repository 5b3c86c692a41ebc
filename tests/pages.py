"""The pages of the documentation: their names, their text, and the commands in their console blocks."""

import re
import textwrap
from dataclasses import dataclass

from tests.conftest import ROOT

PAGES = ["README.md", "profiles/README.md", "benchmarks/README.md", "data/local/README.md"]
PAGES += sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))
BLOCK = re.compile(r"^ *```console\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Example:
    """A command of a console block, and the lines that the page shows as its output."""

    command: str
    shown: tuple[str, ...]


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def console_blocks(text: str) -> list[list[Example]]:
    """The console blocks of a page's text, each a list of examples."""
    return [_examples(textwrap.dedent(match[1])) for match in BLOCK.finditer(text)]


def _examples(block: str) -> list[Example]:
    examples: list[tuple[list[str], list[str]]] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            examples.append(([line.removeprefix("$ ")], []))
        else:
            command, shown = examples[-1]
            (command if _goes_on(command) else shown).append(line)
    return [Example("\n".join(command), tuple(filter(str.strip, shown))) for command, shown in examples]


def _goes_on(lines: list[str]) -> bool:
    """Whether the next line belongs to a command too: after a backslash, and up to the end of a here-document."""
    return lines[-1].endswith("\\") or (lines[0].endswith("<<'EOF'") and lines[-1] != "EOF")
