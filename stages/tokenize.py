"""Stage tokenize: encodes the corpus into token shards."""

from gpt2.corpus import Corpus
from gpt2.shards import write_shards
from gpt2.tokenizer import Tokenizer
from stages.stage import Stage, run


def main(stage: Stage) -> None:
    """Both splits in one pass over the corpus."""
    corpus = Corpus(stage.dep("data/raw/corpus"))
    tokenizer = Tokenizer.load(stage.dep("data/tokenizer"))
    write_shards(stage.out("data/tokens"), corpus.batches(), tokenizer, stage.param("tokens").shard_tokens)


if __name__ == "__main__":
    run("tokenize", main)
