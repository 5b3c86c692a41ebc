"""Stage finetune_classification: teaches the model which label a text has."""

from gpt2.adapters.classifier import save
from gpt2.classification.finetune import finetune
from gpt2.common.files import read_json, read_jsonl, write_json
from gpt2.model.checkpoint import load_with_tokenizer
from gpt2.runtime.world import world
from stages.live import curves
from stages.stage import Stage, run


def main(stage: Stage) -> None:
    params = stage.param("classification")
    model, tokenizer = load_with_tokenizer(stage.dep(f"data/models/{params.init}"))
    data = stage.dep("data/raw/classification")
    labels = read_json(data / "labels.json")
    with world() as here:
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
            log=curves(stage, "classification"),
        )
    out = stage.out("data/models/classification")
    save(done.model, labels, out)
    tokenizer.save(out, model.config.block_size)
    write_json(stage.out("reports/classification/training.json"), done.metrics)


if __name__ == "__main__":
    run("finetune_classification", main)
