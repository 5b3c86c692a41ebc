"""Stage download_hellaswag: contexts with four endings: HellaSwag's, or sentences of held-out docstrings."""

from gpt2.common.files import write_json, write_jsonl
from gpt2.sources.docstrings.completions import completion_rows
from gpt2.sources.docstrings.documents import read_documents, rows_manifest
from gpt2.sources.hellaswag import read_completions
from stages.stage import Stage, run


def main(stage: Stage) -> None:
    params = stage.param("data.hellaswag")
    if params.source == "docstrings":
        documents, origin, _ = read_documents(stage.dep("data/raw/docstrings"))
        rows = completion_rows(documents, params)
        manifest = rows_manifest(origin, {"val": rows})
    else:
        rows, manifest = read_completions(params, stage.dep("data/local/hellaswag"))
    out = stage.out("data/raw/hellaswag")
    write_jsonl(out / "val.jsonl", rows)
    write_json(out / "manifest.json", manifest)


if __name__ == "__main__":
    run("download_hellaswag", main)
