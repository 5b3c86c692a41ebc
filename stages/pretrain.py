"""Stage pretrain: trains a GPT-2 on the token shards, in the processes that `train.launcher` starts."""

from torch.distributed.elastic.multiprocessing.errors import record

from gpt2.common.files import write_csv, write_json, write_jsonl
from gpt2.config.params import GPTConfig
from gpt2.evaluation import hellaswag
from gpt2.model import checkpoint
from gpt2.model.gpt import GPT, initial_model
from gpt2.pretraining.pretrain import TokenWindows, openai_model, pretrain
from gpt2.runtime.world import world
from gpt2.tokenizer.tokenizer import Tokenizer
from gpt2.tokens.shards import TokenStream
from stages.stage import Stage, run

TRAIN_COLUMNS = ("step", "tokens", "lr", "loss", "grad_norm")  # the header of a run of no steps too


def inputs(stage: Stage) -> tuple[GPT, TokenWindows, TokenWindows, Tokenizer, list[hellaswag.Example]]:
    """Opens and verifies the inputs: model, training and validation data, tokenizer, HellaSwag's examples."""
    tokens, base = stage.dep("data/tokens"), stage.dep("data/models/gpt2")
    tokenizer = Tokenizer.load(stage.dep("data/tokenizer"))
    if stage.param("train.init") == "gpt2":
        model = openai_model(base, tokenizer)
    else:
        shape = GPTConfig(**stage.param("model").model_dump(), vocab_size=tokenizer.vocab_size)
        model = initial_model(shape, stage.param("seed"))
    block_size = model.config.block_size
    train_data = TokenWindows(TokenStream(tokens, "train", tokenizer), block_size)
    val_data = TokenWindows(TokenStream(tokens, "val", tokenizer), block_size, stage.param("train.val_tokens"))
    scored = stage.param("train.hellaswag_every") is not None
    completions = hellaswag.read(stage.dep("data/raw/hellaswag") / "val.jsonl") if scored else []
    return model, train_data, val_data, tokenizer, completions


@record  # puts the traceback of a crash into torchrun's report
def main(stage: Stage) -> None:
    model, train_data, val_data, tokenizer, completions = inputs(stage)
    params = stage.param("train")

    def score(model: GPT) -> dict[str, float]:
        metrics, _ = hellaswag.score(model, tokenizer, completions, "completion", here)
        return {"acc_norm": metrics["acc_norm"]}

    with world() as here:
        done = pretrain(
            model,
            train_data,
            val_data,
            tokenizer,
            params,
            seed=stage.param("seed"),
            scratch=stage.scratch,
            world=here,
            score=score,
        )
    if not here.main:
        return
    checkpoint.save(done.model, stage.out("data/models/pretrain"))
    tokenizer.save(stage.out("data/models/pretrain"), done.model.config.block_size)
    write_json(stage.out("reports/pretrain/metrics.json"), done.metrics)
    write_json(stage.out("reports/pretrain/throughput.json"), done.throughput)
    write_csv(stage.out("reports/pretrain/train.csv"), [_in_tokens(row) for row in done.history.train], TRAIN_COLUMNS)
    write_csv(stage.out("reports/pretrain/val.csv"), [_in_tokens(row) for row in done.history.val])
    write_jsonl(stage.out("reports/pretrain/samples.jsonl"), done.history.samples)


def _in_tokens(row: dict) -> dict:
    """A row of the history in which targets are called tokens."""
    return {"tokens" if key == "targets" else key: value for key, value in row.items()}


if __name__ == "__main__":
    run("pretrain", main, launcher="train.launcher", check=inputs)
