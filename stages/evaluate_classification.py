"""Stage evaluate_classification: how often the classifier finds the label of a test text."""

from gpt2.adapters.classifier import load
from gpt2.classification.evaluate import evaluate
from gpt2.common.files import read_json, read_jsonl, write_csv, write_json, write_jsonl
from gpt2.runtime.device import micro_batch_by_shape
from gpt2.runtime.world import world
from gpt2.tokenizer.tokenizer import Tokenizer
from stages.stage import Stage, run


def main(stage: Stage) -> None:
    directory, data = stage.dep("data/models/classification"), stage.dep("data/raw/classification")
    model, labels = load(directory)
    tokenizer = Tokenizer.load(directory, model.transformer.config.vocab_size)
    with world(stage.machine.device) as here:
        done = evaluate(
            model.to(here.device),
            tokenizer,
            labels,
            read_jsonl(data / "train.jsonl"),
            read_jsonl(data / "test.jsonl"),
            batch_size=micro_batch_by_shape(
                stage.machine.micro_batch_size, model.transformer.config.block_size, here.device
            ),
            seed=stage.param("seed"),
        )
    training = read_json(stage.dep("reports/classification/training.json"))
    reports = stage.out("reports/classification/metrics.json").parent
    write_json(reports / "metrics.json", done.metrics | training)
    write_csv(reports / "classes.csv", done.classes)
    write_jsonl(reports / "predictions.jsonl", done.predictions)
    confusion = [{"actual": row["label"], "predicted": row["prediction"]} for row in done.predictions]
    write_csv(reports / "confusion.csv", confusion)


if __name__ == "__main__":
    run("evaluate_classification", main)
