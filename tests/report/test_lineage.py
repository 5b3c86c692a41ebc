"""Where the page says its results came from."""

import copy
import json

from ruamel.yaml import YAML

from gpt2.report.lineage import changes, environment, lineage
from tests.report.inputs import (
    HOSTILE,
    LINEAGE,
    LOCK,
)


def test_lineage_tells_what_is_recorded_and_what_is_not(page):
    recorded, missing = LINEAGE
    assert recorded["params"] == {"seed": 1, "train.lr": 0.001, "train.note": HOSTILE}
    assert missing == {"stage": "evaluate_parity"}
    assert page.text("p", **{"class": "unrecorded"}) == ["evaluate_parity not recorded"]
    changed = copy.deepcopy(LOCK)
    changed["stages"]["pretrain"]["outs"][0]["md5"] = "0" * 32
    assert lineage(["pretrain"], changed)[0]["hash"] != recorded["hash"]


def test_what_differs_from_the_sample_makes_this_run_of_it(page):
    sample = {"seed": 1, "train": {"lr": 0.5, "steps": 3, "lora": {"rank": 1}, "note": None}, "tokens": {"a": ["x"]}}
    own = {"train": {"lr": 1e-05, "steps": 3, "lora": {"rank": 2}, "note": HOSTILE}, "tokens": {"a": ["x", "# y: z"]}}
    lock = {"stages": {"a": {"cmd": "", "params": {"params.yaml": {"seed": 1, "train": own["train"]}}}}}
    lock["stages"]["b"] = {"cmd": "", "params": {"params.yaml": {"tokens.a": own["tokens"]["a"]}}}
    stages = lineage(["a", "b", "c"], lock)
    overlay = {"tokens": own["tokens"], "train": {name: own["train"][name] for name in ("lr", "lora", "note")}}
    assert YAML(typ="safe", pure=True).load(changes(stages, sample)) == overlay
    del lock["stages"]["a"], lock["stages"]["b"]
    assert changes(lineage(["a", "b", "c"], lock), sample) == ""
    assert f"train:\n  lr: 0.001\n  note: {json.dumps(HOSTILE, ensure_ascii=False)}" in page.text("pre", dir="auto")


def test_the_environment_names_no_machine():
    described = environment()
    assert described["torch"] and int(described["cores"]) > 0
    assert not any("/home" in value or "/root" in value for value in described.values())
