"""Stage finetune_classification: teaches the model which label a text has."""

from gpt2.adapters.classifier import save
from gpt2.classification.finetune import finetune
from gpt2.common.files import read_json, read_jsonl, write_csv, write_json, write_jsonl
from gpt2.model.checkpoint import load_with_tokenizer
from gpt2.runtime.world import world
from stages.stage import Stage, run


def main(stage: Stage) -> None:
    params = stage.param("classification")
    base = stage.dep(f"data/models/{params.init}")
    data = stage.dep("data/raw/classification")
    labels = read_json(data / "labels.json")
    model, tokenizer = load_with_tokenizer(base)
    with world() as here:
        done = finetune(
            model,
            tokenizer,
            {split: read_jsonl(data / f"{split}.jsonl") for split in ("train", "val", "test")},
            labels,
            params,
            seed=stage.param("seed"),
            scratch=stage.scratch,
            world=here,
        )
    save(done.model, labels, stage.out("data/models/classification"))
    tokenizer.save(stage.out("data/models/classification"), model.config.block_size)
    reports = stage.out("reports/classification/metrics.json").parent
    write_json(reports / "metrics.json", done.metrics)
    write_csv(reports / "train.csv", done.history.train)
    write_csv(reports / "val.csv", done.history.val)
    write_csv(reports / "classes.csv", done.classes)
    write_jsonl(reports / "predictions.jsonl", done.predictions)
    confusion = [{"actual": row["label"], "predicted": row["prediction"]} for row in done.predictions]
    write_csv(reports / "confusion.csv", confusion)


if __name__ == "__main__":
    run("finetune_classification", main)
