"""Stage finetune_classification: teaches the model which label a text has, in the processes that `machine.launcher`
starts."""

from torch.distributed.elastic.multiprocessing import errors

from gpt2.adapters.classifier import save
from gpt2.classification.finetune import Classified, card, finetune
from gpt2.common.files import read_json, read_jsonl, write_json
from gpt2.model.checkpoint import load_with_tokenizer
from gpt2.runtime.world import world
from gpt2.tokenizer.tokenizer import Tokenizer
from gpt2.training.card import lineage, record, write_card
from stages.live import curves
from stages.stage import Stage, run


@errors.record  # puts the traceback of a crash into torchrun's report
def main(stage: Stage) -> None:
    params = stage.param("classification")
    base, data = stage.dep(f"data/models/{params.init}"), stage.dep("data/raw/classification")
    model, tokenizer = load_with_tokenizer(base)
    labels = read_json(data / "labels.json")
    with world(stage.machine.device) as here:
        stage.share(here.from_main)
        done = finetune(
            model,
            tokenizer,
            {split: read_jsonl(data / f"{split}.jsonl") for split in ("train", "val")},
            labels,
            params,
            machine=stage.machine,
            world=here,
            seed=stage.param("seed"),
            scratch=stage.scratch,
            code=stage.code,
            log=curves(stage, "classification") if here.main else None,
        )
    if here.main:
        write(stage, done, labels, tokenizer)


def write(stage: Stage, done: Classified, labels: list[str], tokenizer: Tokenizer) -> None:
    """Writes the outs, except for the curve, which is in its place already."""
    params, out = stage.param("classification"), stage.out("data/models/classification")
    save(done.model, labels, out)
    tokenizer.save(out, done.model.transformer.config.block_size, padding_side="right")
    manifest = read_json(stage.dep("data/raw/classification/manifest.json"))
    made_from = [*lineage(stage.dep(f"data/models/{params.init}")), record("classification", manifest)]
    write_card(card(done, labels, params, made_from), out)
    write_json(stage.out("reports/classification/training.json"), done.metrics)


if __name__ == "__main__":
    run("finetune_classification", main, launched=True)
