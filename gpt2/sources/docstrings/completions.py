"""Documents as multiple-choice completions in HellaSwag's form: which of four sentences comes next?

The wrong endings are real sentences too: of about the length of the true one, from other documents, and like the true
one not the first of their paragraph. All text comes from test documents.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter

from gpt2.common.errors import InputError
from gpt2.config.data import HellaSwagDataParams
from gpt2.sources.docstrings.documents import Document
from gpt2.sources.docstrings.markup import sentences
from gpt2.sources.splits import draw

MAX_CONTEXT = 3  # sentences
CONTEXT_WORDS = range(8, 91)
ENDING_WORDS = range(4, 41)
ENDINGS = 4


@dataclass(frozen=True)
class Candidate:
    """A sentence of a paragraph, and up to three sentences before it."""

    document: str
    package: str
    context: str
    ending: str

    def draw(self, purpose: str) -> float:
        """A number in [0, 1) that depends on document, ending and purpose alone."""
        return draw(f"{purpose} {self.document} {self.ending}")


def completion_rows(documents: list[Document], params: HellaSwagDataParams) -> list[dict]:
    """Rows {"ind", "activity_label", "ctx_a", "ctx_b", "ctx", "endings", "label", "split"}.

    The activity is the package. Endings are whole sentences, so `ctx_b`, where the sentence of the ending begins, is
    empty. Hashes of document and ending decide which rows are kept, their order, and the place of the true ending.
    Raises InputError if the test documents hold too few sentences for a single row.
    """
    found = [candidate for document in documents if document.split == "test" for candidate in candidates(document)]
    pool = Pool(found)
    rows: list[dict] = []
    limit = params.max_examples or len(found)
    for candidate in sorted(found, key=lambda candidate: candidate.draw("row")):
        if len(rows) == limit:
            break
        wrong = wrong_endings(candidate, pool)
        if len(wrong) == ENDINGS - 1:
            label = int(candidate.draw("label") * ENDINGS)
            endings = [*wrong[:label], candidate.ending, *wrong[label:]]
            context = {"ctx_a": candidate.context, "ctx_b": "", "ctx": candidate.context}
            row = {"ind": len(rows), "activity_label": candidate.package, **context, "endings": endings}
            rows.append({**row, "label": label, "split": "val"})
    if not rows:
        raise InputError("docstrings.heldout leaves too few test sentences for a single completion; raise it")
    return rows


def candidates(document: Document) -> list[Candidate]:
    """Every sentence of a document that follows others in its paragraph, with the last of these."""
    found = []
    for paragraph in document.text.split("\n\n"):
        parts = sentences(paragraph)
        for i in range(1, len(parts)):
            context = parts[max(0, i - MAX_CONTEXT) : i]
            while len(context) > 1 and _words(context) >= CONTEXT_WORDS.stop:
                context = context[1:]
            whole = not parts[i].endswith(":")
            if whole and _words(context) in CONTEXT_WORDS and _words([parts[i]]) in ENDING_WORDS:
                found.append(Candidate(document.name, document.package, " ".join(context), parts[i]))
    return found


class Pool:
    """Candidates by the length of their endings."""

    def __init__(self, candidates: list[Candidate]):
        self._by_length: dict[int, list[tuple[int, Candidate]]] = {}
        for numbered in enumerate(candidates):
            self._by_length.setdefault(len(numbered[1].ending), []).append(numbered)
        self._longest = max(self._by_length, default=0)

    def closest(self, length: int) -> Iterator[Candidate]:
        """All candidates, those first whose endings are closest to `length`; equally close ones in their own order."""
        for distance in range(max(length, self._longest) + 1):
            lengths = {length - distance, length + distance}
            near = [numbered for size in lengths for numbered in self._by_length.get(size, ())]
            yield from (candidate for _, candidate in sorted(near, key=itemgetter(0)))


def wrong_endings(candidate: Candidate, pool: Pool) -> list[str]:
    """The three endings of other documents that are closest in length, in an order drawn by their hashes."""
    chosen: list[Candidate] = []
    for other in pool.closest(len(candidate.ending)):
        if len(chosen) == ENDINGS - 1:
            break
        if other.document != candidate.document and other.ending not in {candidate.ending, *(c.ending for c in chosen)}:
            chosen.append(other)
    return [other.ending for other in sorted(chosen, key=lambda other: other.draw(candidate.ending))]


def _words(parts: list[str]) -> int:
    return sum(len(part.split()) for part in parts)
