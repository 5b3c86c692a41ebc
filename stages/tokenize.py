"""Stage tokenize: encodes the corpus into token shards."""

from gpt2.tokens.corpus import Corpus
from gpt2.tokens.tokenize import tokenize
from stages.stage import Stage, run


def main(stage: Stage) -> None:
    """Both splits in one pass over the corpus. An interrupted run resumes."""
    params = stage.param("tokens")
    corpus = Corpus(stage.dep("data/raw/corpus"), params.heldout)
    tokenize(corpus, stage.dep("data/tokenizer"), params, stage.scratch, stage.out("data/tokens"))


if __name__ == "__main__":
    run("tokenize", main)
