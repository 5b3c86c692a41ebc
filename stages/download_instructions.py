"""Stage download_instructions: instructions with their answers, or functions with summaries from their docstrings."""

from gpt2.common.files import write_json, write_jsonl
from gpt2.sources.docstrings.documents import read_documents, rows_manifest
from gpt2.sources.docstrings.instructions import instruction_rows
from gpt2.sources.labeled import read_instructions
from stages.stage import Stage, run


def main(stage: Stage) -> None:
    params = stage.param("data.instructions")
    if params.source == "docstrings":
        documents, origin, _ = read_documents(stage.dep("data/raw/docstrings"))
        rows = instruction_rows(documents, params)
        manifest = rows_manifest(origin, rows)
    else:
        rows, manifest = read_instructions(params, stage.dep("data/local/instructions"))
    out = stage.out("data/raw/instructions")
    for split, examples in rows.items():
        write_jsonl(out / f"{split}.jsonl", examples)
    write_json(out / "manifest.json", manifest)


if __name__ == "__main__":
    run("download_instructions", main)
