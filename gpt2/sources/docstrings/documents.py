"""The docstrings of installed packages as documents: deduplicated, split, evaluation kept apart from training.

What holds for the documents, and for every text of every row that is made out of them: an evaluation text shares no 13
words in a row with the training texts, and if it is shorter, it does not stand in them whole. Test texts are kept apart
from validation texts in the same way.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from gpt2.common.errors import InputError
from gpt2.config.data import DocstringsParams
from gpt2.sources.docstrings.markup import sentences
from gpt2.sources.docstrings.overlap import Phrases, words
from gpt2.sources.docstrings.packages import Docstring, read_docstrings
from gpt2.sources.docstrings.prose import is_heading, tidy
from gpt2.sources.splits import SPLITS, draw


@dataclass(frozen=True)
class Document:
    """A docstring in prose. Its summary or code is "" where it has none, or none that is kept apart from training."""

    name: str  # qualified, e.g. scipy.linalg.solve
    package: str
    split: str  # train, val or test
    text: str  # paragraphs, with blank lines between
    summary: str  # its first sentence
    code: str  # of a function: signature and beginning of the body


def read_documents(params: DocstringsParams) -> tuple[list[Document], list[str]]:
    """The documents, ordered by split (train, val, test), package, file and line; and the modules that do not parse.

    Raises InputError if a package is not installed, or if a split is left without documents.
    """
    docstrings, skipped = read_docstrings(params.packages)
    return split_apart(docstrings, params), skipped


def split_apart(docstrings: list[Docstring], params: DocstringsParams) -> list[Document]:
    """Splits docstrings by the hash of their names, and drops from each what was said before it.

    The training split comes first: what it shares with the others stays in it. Raises InputError if a split is empty.
    """
    documents: list[Document] = []
    seen: set[str] = set()  # paragraphs
    earlier: list[Phrases] = []  # one for each earlier split
    for split in SPLITS:
        own = []
        for docstring in docstrings:
            if split_of(docstring.name, params.heldout) == split:
                text = "\n\n".join(_apart(_new(docstring.paragraphs, seen), earlier))
                if len(text.split()) >= params.min_words:
                    summary, code = (
                        "" if any(phrases.shared([part]) for phrases in earlier) else part
                        for part in (docstring.summary, docstring.code)
                    )
                    own.append(Document(docstring.name, docstring.package, split, text, summary, code))
        if not own:
            raise InputError(
                f"docstrings.heldout = {params.heldout}, min_words = {params.min_words}: leave no document in {split}"
            )
        earlier.append(Phrases(part for document in own for part in (document.text, document.summary, document.code)))
        documents += own
    return documents


def split_of(name: str, heldout: float) -> str:
    """The split of a qualified name: `heldout` of all names are in test, and as many in val."""
    share = draw(name)
    return "test" if share < heldout else "val" if share < 2 * heldout else "train"


def _new(paragraphs: Iterable[str], seen: set[str]) -> list[str]:
    """The paragraphs that are not in `seen`, which takes them in; headings may repeat."""
    new = []
    for paragraph in paragraphs:
        key = " ".join(words(paragraph))
        if is_heading(paragraph) or key not in seen:
            new.append(paragraph)
            seen.add(key)
    return tidy(new)


def _apart(paragraphs: list[str], earlier: list[Phrases]) -> list[str]:
    """The paragraphs without the sentences that share words with `earlier`; each of these ends its paragraph.

    What comes to stand together is looked at again. Headings are everyone's.
    """
    while paragraphs:
        parts = [sentence for paragraph in paragraphs for sentence in sentences(paragraph)]
        shared = {i for phrases in earlier for i in phrases.shared(parts) if not is_heading(parts[i])}
        if not shared:
            break
        paragraphs = tidy(_without(paragraphs, shared))
    return paragraphs


def _without(paragraphs: list[str], left_out: set[int]) -> list[str]:
    """The paragraphs without some sentences, which are numbered through."""
    runs: list[list[str]] = []
    number = 0
    for paragraph in paragraphs:
        runs.append([])
        for sentence in sentences(paragraph):
            if number in left_out:
                runs.append([])
            else:
                runs[-1].append(sentence)
            number += 1
    return [" ".join(run) for run in runs if run]
