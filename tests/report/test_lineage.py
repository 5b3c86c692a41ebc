"""The origin of the results, as the page shows it."""

import copy

import pytest
from ruamel.yaml import YAML

from gpt2.report.lineage import changes, lineage
from tests.report.inputs import CONTROLS, HOSTILE, LINEAGE, LOCK


def test_lineage_shows_what_is_recorded_and_what_is_not(page):
    recorded, missing = LINEAGE
    assert recorded["params"] == {"seed": 1, "train.lr": 0.001, "train.note": HOSTILE}
    assert missing == {"stage": "evaluate_parity"}
    assert page.text("p", **{"class": "unrecorded"}) == ["evaluate_parity not recorded"]
    changed = copy.deepcopy(LOCK)
    changed["stages"]["pretrain"]["outs"][0]["md5"] = "0" * 32
    assert lineage(["pretrain"], changed)[0]["hash"] != recorded["hash"]


@pytest.mark.parametrize("note", [HOSTILE, CONTROLS[:-1], "a: b # c", "1e-05", ""])
def test_changes_are_a_profile_of_what_differs_from_the_sample(note):
    sample = {"seed": 1, "train": {"lr": 0.5, "steps": 3, "lora": {"rank": 1}, "note": None}, "tokens": {"a": ["x"]}}
    train = {"lr": 1e-05, "steps": 3, "lora": {"rank": 2}, "note": note}
    lock = {
        "stages": {
            "a": {"cmd": "", "params": {"params.yaml": {"seed": 1, "train": train}}},
            "b": {"cmd": "", "params": {"params.yaml": {"tokens.a": ["x", "y"]}}},
        }
    }
    profile = {"tokens": {"a": ["x", "y"]}, "train": {"lr": 1e-05, "lora": {"rank": 2}, "note": note}}
    assert YAML(typ="safe", pure=True).load(changes(lineage(["a", "b", "c"], lock), sample)) == profile
    assert changes(lineage(["a", "b"], {}), sample) == ""


def test_the_page_shows_the_changed_params(page):
    (text,) = page.text("pre", dir="auto")[-1:]
    assert YAML(typ="safe", pure=True).load(text) == {"train": {"lr": 0.001, "note": HOSTILE}}
