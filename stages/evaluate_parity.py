"""Stage evaluate_parity: the pretrained checkpoint, and GPT-2's own shape, give the same numbers in transformers."""

from gpt2 import parity
from gpt2.files import write_csv, write_json
from stages.stage import Stage, run


def main(stage: Stage) -> None:
    """Compares case by case."""
    metrics, cases = parity.compare(stage.dep("data/models/pretrain"), stage.param("parity"), stage.param("seed"))
    write_json(stage.out("reports/parity/metrics.json"), metrics)
    write_csv(stage.out("reports/parity/cases.csv"), cases)


if __name__ == "__main__":
    run("evaluate_parity", main)
