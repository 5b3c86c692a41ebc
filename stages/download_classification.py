"""Stage download_classification: excerpts of docstrings, labelled with the package that they come from."""

from gpt2.files import write_json, write_jsonl
from gpt2.sources.classification import classification_rows
from gpt2.sources.docstrings import read_documents
from stages.stage import Stage, run


def main(stage: Stage) -> None:
    documents, _ = read_documents(stage.param("docstrings"))
    rows, labels = classification_rows(documents, stage.param("data.classification"))
    out = stage.out("data/raw/classification")
    for split, own in rows.items():
        write_jsonl(out / f"{split}.jsonl", own)
    write_json(out / "labels.json", labels)


if __name__ == "__main__":
    run("download_classification", main)
