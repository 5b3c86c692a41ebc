"""Docstrings as documents: deduplicated, split, and with evaluation kept apart from training.

An evaluation text shares no 13 consecutive words with the training texts, and if it is shorter, it does not occur whole
in them. Test texts are kept apart from validation texts in the same way. This holds for the documents and for every
text of every row that is made from them.
"""

from collections.abc import Iterable
from itertools import count

from gpt2.common.errors import InputError
from gpt2.sources.docstrings.documents import Document
from gpt2.sources.docstrings.markup import sentences, unbroken
from gpt2.sources.docstrings.overlap import Phrases, words
from gpt2.sources.docstrings.packages import Docstring
from gpt2.sources.docstrings.prose import is_heading, tidy
from gpt2.sources.splits import SPLITS, draw

MIN_WORDS = 8  # of a document


def split_apart(docstrings: list[Docstring], heldout: float) -> list[Document]:
    """Splits docstrings by the hash of their names, and drops from each split what an earlier one contains.

    Returns the documents of train, val and test, in this order, and within a split in the order of the docstrings. The
    training split comes first: what it shares with the others stays in it. Raises InputError if a split is empty.
    """
    documents: list[Document] = []
    seen: set[str] = set()  # paragraphs
    earlier: list[Phrases] = []  # one per earlier split
    for split in SPLITS:
        added = []
        for docstring in docstrings:
            if split_of(docstring.name, heldout) == split:
                text = "\n\n".join(_without_shared(_without_repeated(docstring.paragraphs, seen), earlier))
                if len(text.split()) >= MIN_WORDS:
                    summary, code = (
                        "" if any(phrases.shared([part]) for phrases in earlier) else part
                        for part in (docstring.summary, docstring.code)
                    )
                    added.append(Document(docstring.name, docstring.package, split, text, summary, code))
        if not added:
            raise InputError(f"docstrings.heldout = {heldout}: leaves no document in {split}")
        earlier.append(Phrases(part for document in added for part in (document.text, document.summary, document.code)))
        documents += added
    return documents


def split_of(name: str, heldout: float) -> str:
    """The split of a qualified name: `heldout` of all names are in test, and as many in val."""
    share = draw(name)
    return "test" if share < heldout else "val" if share < 2 * heldout else "train"


def _without_repeated(paragraphs: Iterable[str], seen: set[str]) -> list[str]:
    """The paragraphs that are not in `seen`, to which they are added. Headings may repeat."""
    new = []
    for paragraph in paragraphs:
        key = " ".join(words(paragraph))
        if is_heading(paragraph) or key not in seen:
            new.append(paragraph)
            seen.add(key)
    return tidy(new)


def _without_shared(paragraphs: list[str], earlier: list[Phrases]) -> list[str]:
    """The paragraphs without the sentences that share words with `earlier`; a removed sentence ends its paragraph.

    Sentences that become neighbors are checked again. Headings may be shared.
    """
    while paragraphs:
        parts = [sentence for paragraph in paragraphs for sentence in sentences(paragraph)]
        shared = {i for phrases in earlier for i in phrases.shared(parts) if not is_heading(parts[i])}
        if not shared:
            break
        paragraphs = tidy(_without_sentences(paragraphs, shared))
    return paragraphs


def _without_sentences(paragraphs: list[str], removed: set[int]) -> list[str]:
    """The paragraphs without the sentences of these numbers, counted through all paragraphs."""
    numbers = count()
    cut = [sentences(paragraph) for paragraph in paragraphs]
    return [run for parts in cut for run in unbroken(parts, [next(numbers) not in removed for _ in parts])]
