"""Stage pretrain: trains a GPT-2 on the token shards, in the processes that `machine.launcher` starts."""

import shutil

from torch.distributed.elastic.multiprocessing import errors

from gpt2.common.files import write_json
from gpt2.config.params import GPTConfig
from gpt2.model.checkpoint import save_with_tokenizer
from gpt2.model.gpt import GPT, initial_model
from gpt2.model.snapshots import write_manifest
from gpt2.pretraining.pretrain import Pretrained, TokenWindows, card, openai_model, pretrain
from gpt2.pretraining.sampling import GENERATION
from gpt2.runtime.world import world
from gpt2.tokenizer.tokenizer import Tokenizer
from gpt2.tokens.shards import TokenStream, read_manifest
from gpt2.training.card import VALIDATION, lineage, record, write_card
from stages.live import curves
from stages.longer import ConstantPhase
from stages.stage import Stage, run


def inputs(stage: Stage) -> tuple[GPT, TokenWindows, TokenWindows, Tokenizer]:
    """Opens the inputs: model, training and validation data, tokenizer."""
    tokens, init = stage.dep("data/tokens"), stage.param("train.init")
    tokenizer = Tokenizer.load(stage.dep("data/tokenizer"))
    if init == "gpt2":
        model = openai_model(stage.dep(f"data/models/{init}"), tokenizer)
    else:
        shape = GPTConfig(**stage.param("model").model_dump(), vocab_size=tokenizer.vocab_size)
        model = initial_model(shape, stage.param("seed"))
    block_size = model.config.block_size
    train_data = TokenWindows(TokenStream(tokens, "train", tokenizer), block_size)
    val_data = TokenWindows(TokenStream(tokens, "val", tokenizer), block_size, stage.param("train.val_tokens"))
    return model, train_data, val_data, tokenizer


@errors.record  # puts the traceback of a crash into torchrun's report
def main(stage: Stage) -> None:
    model, train_data, val_data, tokenizer = inputs(stage)
    with world(stage.machine.device) as here:
        stage.share(here.from_main)
        constant_phase = ConstantPhase(stage)
        done = pretrain(
            model,
            train_data,
            val_data,
            tokenizer,
            stage.param("train"),
            machine=stage.machine,
            seed=stage.param("seed"),
            scratch=stage.scratch,
            code=stage.code,
            world=here,
            log=curves(stage, "pretrain", "tokens") if here.main else None,
            start=constant_phase.load,
        )
    if here.main:
        write(stage, done, tokenizer)
        constant_phase.keep()


def write(stage: Stage, done: Pretrained, tokenizer: Tokenizer) -> None:
    """Writes the outs, except for the curve, which is in its place already."""
    out, snapshots = stage.out("data/models/pretrain"), stage.out("data/models/snapshots")
    save_with_tokenizer(done.model, tokenizer, out, GENERATION)
    write_card(card(done.model, done.metrics, made_from(stage)), out)
    for snapshot in done.snapshots:
        shutil.copytree(snapshot.directory, snapshots / snapshot.directory.name)
    write_manifest(snapshots, done.snapshots, done.metrics["steps"], done.metrics["tokens"])
    write_json(stage.out("reports/pretrain/metrics.json"), done.metrics)
    write_json(stage.out("reports/pretrain/throughput.json"), done.throughput)


def made_from(stage: Stage) -> list[dict]:
    """The records of initial weights and corpus for the model card."""
    init, corpus = stage.param("train.init"), read_manifest(stage.dep("data/tokens")).corpus
    base = [] if init == "scratch" else lineage(stage.dep(f"data/models/{init}"))
    use = "pretraining" if stage.param("train.steps") else VALIDATION
    return [*base, record(use, corpus.model_dump(mode="json"))]


if __name__ == "__main__":
    run("pretrain", main, launched=True)
