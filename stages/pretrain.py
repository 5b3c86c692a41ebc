"""Stage pretrain: trains a GPT-2 on the token shards; every process that the launcher starts runs this module."""

from gpt2 import weights
from gpt2.files import write_csv, write_json, write_jsonl
from gpt2.pretrain import TokenWindows, pretrain
from gpt2.runtime import world
from gpt2.shards import TokenStream
from gpt2.tokenizer import Tokenizer
from stages.stage import Stage, run


def check(stage: Stage) -> tuple[TokenWindows, TokenWindows, Tokenizer]:
    """Opens the inputs, which verifies them: a mistake is told once, not by every process of a launcher."""
    block_size = stage.param("model").block_size
    tokens = stage.dep("data/tokens")
    tokenizer = Tokenizer.load(stage.dep("data/tokenizer"))
    train_data = TokenWindows(TokenStream(tokens, "train", tokenizer), block_size)
    val_data = TokenWindows(TokenStream(tokens, "val", tokenizer), block_size, stage.param("train.val_tokens"))
    return train_data, val_data, tokenizer


def main(stage: Stage) -> None:
    train_data, val_data, tokenizer = check(stage)
    with world() as here:
        done = pretrain(
            train_data,
            val_data,
            tokenizer,
            stage.param("model"),
            stage.param("train"),
            seed=stage.param("seed"),
            scratch=stage.scratch,
            world=here,
        )
    if not here.main:
        return
    weights.save(done.model, stage.out("data/models/pretrain"))
    tokenizer.save(stage.out("data/models/pretrain"), done.model.config.block_size)
    write_json(stage.out("reports/pretrain/metrics.json"), done.metrics)
    write_json(stage.out("reports/pretrain/throughput.json"), done.throughput)
    for name, rows in (("train", done.history.train), ("val", done.history.val)):
        rows = [{"tokens" if key == "targets" else key: value for key, value in row.items()} for row in rows]
        write_csv(stage.out(f"reports/pretrain/{name}.csv"), rows)
    write_jsonl(stage.out("reports/pretrain/samples.jsonl"), done.history.samples)


if __name__ == "__main__":
    run("pretrain", main, check)
