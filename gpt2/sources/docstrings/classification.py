"""Documents as a classification set: which package does a text come from? The text does not contain its name."""

import re
from collections.abc import Iterable
from itertools import groupby

from gpt2.common.errors import InputError
from gpt2.config.data import ExamplesParams
from gpt2.sources.docstrings.documents import Document
from gpt2.sources.docstrings.markup import sentences
from gpt2.sources.docstrings.prose import tidy
from gpt2.sources.splits import SPLITS, draw

MAX_WORDS = 100
MIN_WORDS = 8
NICKNAMES = {  # other names that texts use for a package
    "matplotlib": ("mpl", "plt", "pyplot", "pylab"),
    "networkx": ("nx",),
    "numpy": ("np",),
    "pandas": ("pd",),
    "sklearn": ("scikit",),
}


def classification_rows(documents: list[Document], params: ExamplesParams) -> tuple[dict[str, list[dict]], list[str]]:
    """Rows {"text", "label"} of each split, and the labels in order.

    The text of a row is an unbroken stretch of its document, so it shares nothing with earlier splits either. The hash
    of a document's name decides whether its row is kept, and where. No label takes more than twice its even share of a
    split. Raises InputError for a single package, for a split without rows, and if one label is left to learn.
    """
    labels = sorted({document.package for document in documents})
    if len(labels) < 2:
        raise InputError(f"docstrings.packages = {labels}: expected two or more, because the label is the package")
    names = _names(labels)
    rows: dict[str, list[dict]] = {}
    for split in SPLITS:
        rows[split] = []
        members = [document for document in documents if document.split == split]
        limit = (params.max_train if split == "train" else params.max_eval) or len(members)
        room = dict.fromkeys(labels, max(2 * limit // len(labels), 1))
        for document in sorted(members, key=lambda document: draw(f"classification {document.name}")):
            if len(rows[split]) < limit and room[document.package] and (text := excerpt(document.text, names)):
                rows[split].append({"text": text, "label": document.package})
                room[document.package] -= 1
        if not rows[split]:
            raise InputError(f"docstrings.heldout leaves no text to classify in {split}")
    if len({row["label"] for row in rows["train"]}) < 2:
        raise InputError(f"data.classification.max_train = {params.max_train}: leaves one label to learn; raise it")
    return rows, labels


def excerpt(text: str, names: re.Pattern) -> str:
    """The first consecutive paragraphs without any of `names`, up to MAX_WORDS words in whole sentences, or ""."""
    for named, stretch in groupby(text.split("\n\n"), key=lambda paragraph: bool(names.search(paragraph))):
        kept = [] if named else _shorten(stretch)
        if sum(len(paragraph.split()) for paragraph in kept) >= MIN_WORDS:
            return "\n\n".join(kept)
    return ""


def _shorten(paragraphs: Iterable[str]) -> list[str]:
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
    """Matches the names of packages, also inside longer words, and nicknames as whole words."""
    nicknames = [nickname for package in packages for nickname in NICKNAMES.get(package, ())]
    parts = [*map(re.escape, packages), *(rf"\b{nickname}\b" for nickname in nicknames)]
    return re.compile("|".join(parts), re.IGNORECASE)
