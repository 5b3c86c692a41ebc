"""Stage evaluate_hellaswag: how often the pretrained model finds the true ending the likeliest of four.

The snapshots of pretraining are scored too if asked for, on the first examples and under the completion protocol.
"""

from gpt2.common.files import write_csv, write_json, write_jsonl
from gpt2.evaluation.hellaswag import PROTOCOLS, accuracies, evaluate, read
from gpt2.model.snapshots import read_snapshots
from gpt2.runtime.world import world
from stages.stage import Stage, run


def main(stage: Stage) -> None:
    """Scores every example of the validation set under both protocols."""
    params = stage.param("hellaswag")
    examples = read(stage.dep("data/raw/hellaswag") / "val.jsonl")
    *snapshots, final = read_snapshots(stage.dep("data/models/snapshots"), stage.dep("data/models/pretrain"))
    first = examples[: params.snapshots]
    with world(stage.machine.device) as here:
        settings = {"precision": params.precision, "world": here}
        metrics, rows = evaluate(final.directory, examples, list(PROTOCOLS), **settings)
        scored = [(final, rows[: len(first)])]
        if params.snapshots:
            earlier = [evaluate(model.directory, first, ["completion"], **settings)[1] for model in snapshots]
            scored = [*zip(snapshots, earlier, strict=True), *scored]
    curve = [{"step": model.step, "tokens": model.tokens, **accuracies(results)} for model, results in scored]
    write_json(stage.out("reports/hellaswag/metrics.json"), metrics)
    write_jsonl(stage.out("reports/hellaswag/predictions.jsonl"), rows)
    write_csv(stage.out("reports/hellaswag/snapshots.csv"), curve)


if __name__ == "__main__":
    run("evaluate_hellaswag", main)
