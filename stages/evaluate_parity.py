"""Stage evaluate_parity: the pretrained checkpoint, and GPT-2s of OpenAI's shapes, give the same in transformers."""

from gpt2.files import write_csv, write_json
from gpt2.parity.cases import metrics
from gpt2.parity.compare import compare
from stages.stage import Stage, run


def main(stage: Stage) -> None:
    """Compares case by case."""
    checkpoint, openai = stage.dep("data/models/pretrain"), stage.dep("data/models/gpt2")
    cases = compare(checkpoint, openai, stage.param("parity"), stage.param("seed"))
    write_json(stage.out("reports/parity/metrics.json"), metrics(cases))
    write_csv(stage.out("reports/parity/cases.csv"), [case.row() for case in cases])


if __name__ == "__main__":
    run("evaluate_parity", main)
