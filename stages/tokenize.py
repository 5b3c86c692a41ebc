"""Stage tokenize: encodes the corpus into token shards."""

import sys

from gpt2.common.files import read_json, write_json
from gpt2.tokens.corpus import Corpus
from gpt2.tokens.shards import Origin
from gpt2.tokens.tokenize import tokenize
from stages.stage import Stage, run


def main(stage: Stage) -> None:
    """Both splits in one pass over the corpus. An interrupted run resumes."""
    begun = stage.scratch / "code.json"
    if not begun.exists():
        write_json(begun, stage.code)
    elif read_json(begun) != stage.code:
        line = f"tokenization continues, although its code has changed; to start over, delete {stage.scratch}"
        print(line, file=sys.stderr)
    params = stage.param("tokens")
    corpus = Corpus(stage.dep("data/raw/corpus"), params.heldout)
    tokenizer, out = stage.dep("data/tokenizer"), stage.out("data/tokens")
    record = read_json(stage.dep("data/raw/corpus/manifest.json"))
    origin = Origin(**{key: record.get(key) for key in Origin.model_fields})
    tokenize(corpus, tokenizer, params, stage.machine, stage.scratch, out, origin=origin)


if __name__ == "__main__":
    run("tokenize", main)
