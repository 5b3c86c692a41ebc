"""Documents as instructions in Alpaca's form: input is a function, output its docstring's first sentence."""

from gpt2.config.data import ExamplesParams
from gpt2.sources.docstrings.documents import Document
from gpt2.sources.splits import SPLITS, draw

INSTRUCTION = "Write a one-line summary of this Python function."
MIN_WORDS, MAX_WORDS = 3, 25  # of a summary


def instruction_rows(documents: list[Document], params: ExamplesParams) -> dict[str, list[dict]]:
    """Rows {"instruction", "input", "output"} of each split, without repeated summaries.

    The hash of a document's name decides whether its row is kept, and where.
    """
    rows: dict[str, list[dict]] = {split: [] for split in SPLITS}
    seen: set[str] = set()
    for document in sorted(documents, key=lambda document: draw(f"instruction {document.name}")):
        split = rows[document.split]
        limit = (params.max_train if document.split == "train" else params.max_eval) or len(documents)
        summary = document.summary
        fitting = MIN_WORDS <= len(summary.split()) <= MAX_WORDS and summary.endswith(".")
        if len(split) < limit and document.code and fitting and summary not in seen:
            split.append({"instruction": INSTRUCTION, "input": document.code, "output": summary})
            seen.add(summary)
    return rows
