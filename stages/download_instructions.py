"""Stage download_instructions: functions, to be summarized as their docstrings do."""

from gpt2.files import write_jsonl
from gpt2.sources.docstrings import read_documents
from gpt2.sources.instructions import instruction_rows
from stages.stage import Stage, run


def main(stage: Stage) -> None:
    documents, _ = read_documents(stage.param("docstrings"))
    out = stage.out("data/raw/instructions")
    for split, rows in instruction_rows(documents, stage.param("data.instructions")).items():
        write_jsonl(out / f"{split}.jsonl", rows)


if __name__ == "__main__":
    run("download_instructions", main)
