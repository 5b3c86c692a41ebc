"""Stage download_corpus: the docstrings of installed packages as pretraining text."""

from gpt2.sources.corpus import corpus_rows, write_corpus
from gpt2.sources.docstrings import read_documents
from stages.stage import Stage, run


def main(stage: Stage) -> None:
    params = stage.param("docstrings")
    documents, skipped = read_documents(params)
    write_corpus(stage.out("data/raw/corpus"), corpus_rows(documents), params.packages, skipped)


if __name__ == "__main__":
    run("download_corpus", main)
