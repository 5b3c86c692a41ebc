"""Documents as a classification set: which package does a text come from? Its name is not in the text."""

import re
from collections.abc import Iterable
from itertools import groupby

from gpt2.config.data import ExamplesParams
from gpt2.sources.docstrings.documents import Document
from gpt2.sources.docstrings.markup import sentences
from gpt2.sources.docstrings.prose import tidy
from gpt2.sources.splits import SPLITS, draw

MAX_WORDS = 100
MIN_WORDS = 8
NICKNAMES = {  # by which texts call a package besides the name that it is imported under
    "matplotlib": ("mpl", "plt", "pyplot", "pylab"),
    "networkx": ("nx",),
    "numpy": ("np",),
    "pandas": ("pd",),
    "sklearn": ("scikit",),
}


def classification_rows(documents: list[Document], params: ExamplesParams) -> tuple[dict[str, list[dict]], list[str]]:
    """Rows {"text", "label"} of each split, and the labels in order.

    A row's text is an unbroken stretch of its document's, so what is kept apart there is kept apart here. Which rows
    are kept, and their order, is drawn by name; no label takes more than twice its even share of a split.
    """
    labels = sorted({document.package for document in documents})
    names = _names(labels)
    rows: dict[str, list[dict]] = {}
    for split in SPLITS:
        rows[split] = []
        own = [document for document in documents if document.split == split]
        limit = (params.max_train if split == "train" else params.max_eval) or len(own)
        room = dict.fromkeys(labels, max(2 * limit // len(labels), 1))
        for document in sorted(own, key=lambda document: draw(f"classification {document.name}")):
            if len(rows[split]) < limit and room[document.package] and (text := excerpt(document.text, names)):
                rows[split].append({"text": text, "label": document.package})
                room[document.package] -= 1
    return rows, labels


def excerpt(text: str, names: re.Pattern) -> str:
    """The first paragraphs in a row that hold none of `names`, up to MAX_WORDS words in whole sentences, or ""."""
    for named, stretch in groupby(text.split("\n\n"), key=lambda paragraph: bool(names.search(paragraph))):
        kept = [] if named else _shortened(stretch)
        if sum(len(paragraph.split()) for paragraph in kept) >= MIN_WORDS:
            return "\n\n".join(kept)
    return ""


def _shortened(paragraphs: Iterable[str]) -> list[str]:
    """As many whole sentences from the start as MAX_WORDS allows."""
    kept, room = [], MAX_WORDS
    for paragraph in paragraphs:
        run = []
        for sentence in sentences(paragraph):
            room -= len(sentence.split())
            if room >= 0:
                run.append(sentence)
        kept += [" ".join(run)] if run else []
    return tidy(kept)


def _names(packages: list[str]) -> re.Pattern:
    """Matches a package's name, also inside a longer word, and nicknames as words of their own."""
    nicknames = [nickname for package in packages for nickname in NICKNAMES.get(package, ())]
    parts = [*map(re.escape, packages), *(rf"\b{nickname}\b" for nickname in nicknames)]
    return re.compile("|".join(parts), re.IGNORECASE)
