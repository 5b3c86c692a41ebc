"""Stage evaluate_hellaswag: how often the pretrained model finds the true ending the likeliest of four."""

from gpt2.common.files import write_json, write_jsonl
from gpt2.evaluation.hellaswag import PROTOCOLS, evaluate
from gpt2.runtime.world import world
from stages.stage import Stage, run


def main(stage: Stage) -> None:
    """Scores every example of the validation set under both protocols."""
    model, data = stage.dep("data/models/pretrain"), stage.dep("data/raw/hellaswag") / "val.jsonl"
    with world() as here:
        metrics, rows = evaluate(model, data, list(PROTOCOLS), precision=stage.param("hellaswag").precision, world=here)
    write_json(stage.out("reports/hellaswag/metrics.json"), metrics)
    write_jsonl(stage.out("reports/hellaswag/predictions.jsonl"), rows)


if __name__ == "__main__":
    run("evaluate_hellaswag", main)
