"""Stage download_corpus: text to pretrain on, from docstrings of installed packages, the hub or data/local."""

from gpt2.sources.corpus import write_parts
from gpt2.sources.docstrings.corpus import corpus_rows, write_corpus
from gpt2.sources.docstrings.documents import read_documents
from stages.stage import Stage, run


def main(stage: Stage) -> None:
    params = stage.param("data.corpus")
    out = stage.out("data/raw/corpus")
    if params.source == "docstrings":
        documents, origin, skipped = read_documents(stage.dep("data/raw/docstrings"))
        write_corpus(out, corpus_rows(documents), origin, skipped)
    else:
        write_parts(params, stage.dep("data/local/corpus"), out)


if __name__ == "__main__":
    run("download_corpus", main)
