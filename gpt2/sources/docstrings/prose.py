"""Turns docstrings into English prose: drops what is not prose, and removes markup from the rest."""

import re

from gpt2.sources.docstrings.layout import Block, blocks
from gpt2.sources.docstrings.markup import FINISHED, is_prose, plain, sentences, unbroken

TITLE = re.compile(r"[A-Z][\w ,'/()-]*")


class Passage:
    """A block as plain sentences, and whether each is kept."""

    def __init__(self, block: Block):
        self.kind = block.kind
        if block.kind == "heading":
            self.sentences = [plain(block.text).rstrip(":.!? ")]
            self.keep = [TITLE.fullmatch(self.sentences[0]) is not None]
        else:
            self.sentences = sentences(plain(block.text))
            self.keep = [is_prose(sentence) for sentence in self.sentences]

    @property
    def starts(self) -> bool:
        """Whether its first sentence is kept."""
        return bool(self.keep and self.keep[0])

    @property
    def ends(self) -> bool:
        """Whether its last sentence is kept."""
        return bool(self.keep and self.keep[-1])

    def mend(self, before: "Passage | None", after: "Passage | None") -> None:
        """Drops sentences that make no sense without dropped neighbors; adds missing periods."""
        if self.kind == "heading" or not self.keep:
            return
        if self.kind == "text" and before and not before.ends and self.sentences[0][0].islower():
            self.keep[0] = False  # the rest of a sentence
        if self.sentences[-1].endswith(":"):
            self.keep[-1] &= after is not None and after.starts and after.kind != "heading"
        elif not FINISHED.search(self.sentences[-1]):
            self.keep[-1] &= after is None or after.starts
            self.sentences[-1] = self.sentences[-1].rstrip(",;- ") + "."

    def paragraphs(self) -> list[str]:
        """The kept sentences; a dropped one ends a paragraph."""
        runs = unbroken(self.sentences, self.keep)
        if self.kind == "item" and self.starts:
            runs[0] = f"- {runs[0]}"
        return runs


def prose(docstring: str) -> tuple[list[str], str]:
    """The prose of a docstring: its paragraphs, and its first sentence ("" if it does not begin with prose).

    Headings, paragraphs and list items keep their order; each is one line without markup. Neighboring sentences of a
    paragraph are neighbors in the docstring.
    """
    passages = [Passage(block) for block in blocks(docstring)]
    around = [None, *passages, None]
    for i in reversed(range(len(passages))):  # backwards, because an introduction is kept only with what it introduces
        passages[i].mend(around[i], around[i + 2])
    opens = passages and passages[0].kind == "text" and passages[0].starts
    summary = passages[0].sentences[0] if opens else ""
    return tidy([paragraph for passage in passages for paragraph in passage.paragraphs()]), summary


def tidy(paragraphs: list[str]) -> list[str]:
    """The paragraphs without headings, and sentences ending in a colon, that nothing follows."""
    kept: list[str] = []
    for paragraph in reversed(paragraphs):
        if not kept or is_heading(kept[-1]):
            if is_heading(paragraph):
                continue
            if paragraph.endswith(":"):
                paragraph = " ".join(sentences(paragraph)[:-1])
        if paragraph:
            kept.append(paragraph)
    return kept[::-1]


def is_heading(paragraph: str) -> bool:
    """Whether a paragraph is a heading: all others end with a period or a colon."""
    return not (paragraph.endswith(":") or FINISHED.search(paragraph))
