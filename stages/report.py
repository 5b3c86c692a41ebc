"""Stage report: what the other stages measured, on one page."""

from pathlib import Path

from gpt2.common.files import read_csv, read_json, read_jsonl, write_json, write_text
from gpt2.report.lineage import environment, lineage
from gpt2.report.page import headline, render
from stages.params import read_yaml
from stages.stage import Stage, run

SETS = ("corpus", "instructions", "classification", "hellaswag")
FACTS = {
    "labels": "data/raw/classification/labels.json",
    "tokens": "data/tokens/manifest.json",
    "gpt2": "data/models/gpt2/manifest.json",
}
REPORTS = {
    "pretrain": ("metrics.json", "throughput.json", "train.csv", "val.csv", "samples.jsonl"),
    "classification": ("metrics.json", "train.csv", "val.csv", "predictions.jsonl", "classes.csv", "confusion.csv"),
    "instruction": ("metrics.json", "train.csv", "val.csv", "responses.jsonl"),
    "parity": ("metrics.json", "cases.csv", "pipeline.jsonl"),
    "hellaswag": ("metrics.json", "snapshots.csv", "predictions.jsonl"),
    "attention": (
        *("metrics.json", "heads.csv", "snapshots.csv", "attention.json"),
        *("mapping.jsonl", "neighbors.jsonl", "norms.jsonl"),
    ),
}
READERS = {".json": read_json, ".jsonl": read_jsonl, ".csv": read_csv}


def read(stage: Stage) -> dict:
    """The data of the page: each file under its section and its name without suffix."""
    data = {name: read_json(stage.dep(path)) for name, path in FACTS.items()}
    data["sets"] = {name: read_json(stage.dep(f"data/raw/{name}/manifest.json")) for name in SETS}
    for section, files in REPORTS.items():
        paths = [stage.dep(f"reports/{section}/{file}") for file in files]
        data[section] = {path.stem: READERS[path.suffix](path) for path in paths}
    data["sample"] = read_yaml(stage.dep("profiles/sample.yaml"))
    figures = sorted(stage.dep("reports/attention/figures").glob("*.svg"))
    data["attention"]["figures"] = {path.stem: path.read_text("utf-8") for path in figures}
    return data


def main(stage: Stage) -> None:
    data, lock = read(stage), Path("dvc.lock")
    # The lock records the previous page as the result of this stage, so the page leaves this stage out.
    stages = [name for name in read_yaml(Path("dvc.yaml"))["stages"] if name != "report"]
    history = lineage(stages, read_yaml(lock) if lock.exists() else {})
    write_text(stage.out("reports/index.html"), render(data, history, environment()))
    write_json(stage.out("reports/metrics.json"), headline(data))


if __name__ == "__main__":
    run("report", main)
