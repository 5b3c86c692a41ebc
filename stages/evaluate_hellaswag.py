"""Stage evaluate_hellaswag: how often the pretrained model finds the true ending the likeliest of four."""

from gpt2 import hellaswag
from gpt2.files import write_json, write_jsonl
from gpt2.weights import load_with_tokenizer
from stages.stage import Stage, run


def main(stage: Stage) -> None:
    """Scores every example of the validation set."""
    model, tokenizer = load_with_tokenizer(stage.dep("data/models/pretrain"))
    examples = hellaswag.read(stage.dep("data/raw/hellaswag") / "val.jsonl")
    metrics, predictions = hellaswag.score(model, tokenizer, examples, stage.param("hellaswag").batch_size)
    write_json(stage.out("reports/hellaswag/metrics.json"), metrics)
    write_jsonl(stage.out("reports/hellaswag/predictions.jsonl"), predictions)


if __name__ == "__main__":
    run("evaluate_hellaswag", main)
