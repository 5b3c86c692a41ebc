"""The stages from a user's table to a classifier and its evaluation."""

import sys

import pytest

from gpt2.commands.classify import Classifier
from gpt2.common.files import read_csv, write_json, write_jsonl
from gpt2.model import checkpoint
from tests.repository import Repository
from tests.small import byte_tokenizer, small_model

ROWS = [
    {"review": f"{word} number {i}", "stars": stars}
    for i in range(30)
    for word, stars in (("awful", "one"), ("fine", "three"), ("superb", "five"))
]
LOCAL = """
data:
  classification:
    source: local
    train: reviews.jsonl
    test:
    columns:
      text: review
      label: stars
classification:
  trainable: lora
  patience: 1
machine:
  launcher: python
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Repository:
    """A copy of this repository in which the sets are local and the pretrained model is small."""
    repository = Repository(tmp_path_factory.mktemp("repository"), "smoke")
    (repository.path / "profiles/reviews.yaml").write_text(LOCAL)
    repository.ok(sys.executable, "-m", "stages.profile", "reviews")
    base = repository.path / "data/models/pretrain"
    checkpoint.save(small_model(vocab_size=257, block_size=32), base)
    byte_tokenizer().save(base)
    write_json(base / "manifest.json", {"source": "local", "license": None})
    write_json(repository.path / "data/raw/docstrings/manifest.json", {"source": "none"})
    return repository


def stage(repository: Repository, name: str, rows: list[dict]) -> str:
    """Runs a stage with these rows in the user's file. Returns the last line of its error, if it fails."""
    write_jsonl(repository.path / "data/local/classification/reviews.jsonl", rows)
    done = repository.run(sys.executable, "-m", f"stages.{name}")
    return done.stderr.splitlines()[-1] if done.returncode else ""


def test_a_table_becomes_a_classifier_that_answers(repository):
    rows = [*ROWS, {"review": "", "stars": "one"}, {"review": "fine " * 20, "stars": "three"}]
    assert stage(repository, "download_classification", rows) == ""
    dropped = repository.json("data/raw/classification/manifest.json")["dropped"]
    assert sum(reasons.get("empty", 0) for reasons in dropped.values()) == 1
    assert stage(repository, "finetune_classification", rows) == ""
    reports = repository.path / "reports/classification"
    training = repository.json("reports/classification/training.json")
    assert training["truncated_train"] + training["truncated_val"] <= 1 and 0 < training["trainable_share"] < 1
    losses = {row["step"]: row["loss"] for row in read_csv(reports / "val.csv")}
    assert losses[str(training["best_step"])] == f"{training['val_loss']:.6g}"
    assert stage(repository, "evaluate_classification", rows) == ""
    metrics = repository.json("reports/classification/metrics.json")
    assert metrics.items() >= training.items()
    assert sum(metrics[f"truncated_{split}"] for split in ("train", "val", "test")) == 1
    classes = read_csv(reports / "classes.csv")
    assert [row["label"] for row in classes] == ["five", "one", "three"]
    assert sum(int(row["n"]) for row in classes) == metrics["n"]
    before = {path.name: path.read_bytes() for path in reports.iterdir()}
    assert stage(repository, "evaluate_classification", rows) == ""
    assert {path.name: path.read_bytes() for path in reports.iterdir()} == before
    shares = Classifier(repository.path / "data/models/classification")(["a superb one"])
    assert shares.shape == (1, 3) and shares.sum() == pytest.approx(1)
