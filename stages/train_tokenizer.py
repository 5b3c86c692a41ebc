"""Stage train_tokenizer: trains a vocabulary on the training split, or takes OpenAI's."""

from gpt2.common.errors import InputError
from gpt2.tokenizer.bpe import train_bpe
from gpt2.tokenizer.tokenizer import Tokenizer
from gpt2.tokens.corpus import Corpus
from stages.stage import Stage, run


def main(stage: Stage) -> None:
    """The validation split has no influence on the vocabulary."""
    params = stage.param("tokenizer")
    if params.source == "gpt2":
        tokenizer = Tokenizer.gpt2()
    elif params.source == "checkpoint":
        checkpoint = stage.dep("data/models/gpt2")
        if not (checkpoint / "config.json").exists():
            raise InputError(
                "tokenizer.source = 'checkpoint': there is no checkpoint, because data.gpt2.source = 'none'"
            )
        tokenizer = Tokenizer.load(checkpoint)
    else:
        corpus = Corpus(stage.dep("data/raw/corpus"), stage.param("tokens.heldout"))
        tokenizer = Tokenizer(train_bpe(corpus.texts("train"), params.vocab_size))
    tokenizer.save(stage.out("data/tokenizer"))


if __name__ == "__main__":
    run("train_tokenizer", main)
