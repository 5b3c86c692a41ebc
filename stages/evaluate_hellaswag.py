"""Stage evaluate_hellaswag: how often the pretrained model finds the true ending the likeliest of four."""

from gpt2.common.files import write_json, write_jsonl
from gpt2.evaluation.hellaswag import PROTOCOLS, evaluate
from gpt2.runtime.world import world
from stages.stage import Stage, run

BATCH_TOKENS = 1024  # tokens that go through the model together, at most


def main(stage: Stage) -> None:
    """Scores every example of the validation set under both protocols."""
    model, data, params = stage.dep("data/models/pretrain"), stage.dep("data/raw/hellaswag"), stage.param("hellaswag")
    with world() as here:
        metrics, predictions = evaluate(
            model,
            data / "val.jsonl",
            list(PROTOCOLS),
            batch_tokens=BATCH_TOKENS,
            precision=params.precision,
            world=here,
            partial=stage.scratch / "scores.jsonl",
        )
    write_json(stage.out("reports/hellaswag/metrics.json"), metrics)
    write_jsonl(stage.out("reports/hellaswag/predictions.jsonl"), predictions)


if __name__ == "__main__":
    run("evaluate_hellaswag", main)
