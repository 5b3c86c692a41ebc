"""Stage download_classification: texts with their labels, or excerpts of docstrings with the package they come from."""

from gpt2.common.files import write_json, write_jsonl
from gpt2.sources.docstrings.classification import classification_rows
from gpt2.sources.docstrings.documents import read_documents, rows_manifest
from gpt2.sources.labeled import read_classification
from stages.stage import Stage, run


def main(stage: Stage) -> None:
    params = stage.param("data.classification")
    if params.source == "docstrings":
        documents, origin, _ = read_documents(stage.dep("data/raw/docstrings"))
        rows, labels = classification_rows(documents, params)
        manifest = rows_manifest(origin, rows)
    else:
        rows, labels, manifest = read_classification(params, stage.dep("data/local/classification"))
    out = stage.out("data/raw/classification")
    for split, examples in rows.items():
        write_jsonl(out / f"{split}.jsonl", examples)
    write_json(out / "labels.json", labels)
    write_json(out / "manifest.json", manifest)


if __name__ == "__main__":
    run("download_classification", main)
