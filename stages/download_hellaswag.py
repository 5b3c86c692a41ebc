"""Stage download_hellaswag: sentences of held-out docstrings, each to be completed with one of four."""

from gpt2.files import write_jsonl
from gpt2.sources.completions import completion_rows
from gpt2.sources.docstrings import read_documents
from stages.stage import Stage, run


def main(stage: Stage) -> None:
    documents, _ = read_documents(stage.param("docstrings"))
    rows = completion_rows(documents, stage.param("data.hellaswag"))
    write_jsonl(stage.out("data/raw/hellaswag") / "val.jsonl", rows)


if __name__ == "__main__":
    run("download_hellaswag", main)
