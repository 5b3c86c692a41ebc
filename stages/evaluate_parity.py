"""Stage evaluate_parity: the pretrained checkpoint and OpenAI's four shapes compute the same in transformers."""

from gpt2.common.files import write_csv, write_json, write_jsonl
from gpt2.evaluation.parity.cases import metrics
from gpt2.evaluation.parity.compare import compare, fitted
from gpt2.evaluation.parity.pipeline import experiment
from stages.stage import Stage, run


def main(stage: Stage) -> None:
    """Compares case by case, then runs the pipeline under one setting after another."""
    checkpoint, openai = stage.dep("data/models/pretrain"), stage.dep("data/models/gpt2")
    params, seed = fitted(stage.param("parity"), checkpoint), stage.param("seed")
    cases = compare(checkpoint, openai, params, seed)
    runs, texts = experiment(checkpoint, params.tokens, seed)
    cases.append(texts)
    write_json(stage.out("reports/parity/metrics.json"), metrics(cases))
    write_csv(stage.out("reports/parity/cases.csv"), [case.row() for case in cases])
    write_jsonl(stage.out("reports/parity/pipeline.jsonl"), runs)


if __name__ == "__main__":
    run("evaluate_parity", main)
