"""Stage read_docstrings: docstrings of installed packages as documents, read once for all data sets made from them."""

from gpt2.common.files import write_json
from gpt2.sources.docstrings.documents import write_documents
from gpt2.sources.docstrings.packages import origin, read_docstrings
from gpt2.sources.docstrings.separation import split_apart
from stages.stage import Stage, run

SETS = ("corpus", "instructions", "classification", "hellaswag")


def main(stage: Stage) -> None:
    """If no data set is made from docstrings, reads nothing, so that other packages do not repeat a download."""
    out = stage.out("data/raw/docstrings")
    if all(stage.param(f"data.{name}.source") != "docstrings" for name in SETS):
        write_json(out / "manifest.json", {"source": "none"})
        return
    params = stage.param("docstrings")
    docstrings, skipped = read_docstrings(params.packages)
    write_documents(out, split_apart(docstrings, params.heldout), origin(params.packages), skipped)


if __name__ == "__main__":
    run("read_docstrings", main)
