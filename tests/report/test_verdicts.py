"""Claims: each changes at its threshold, and a claim that was not measured does not pass."""

import copy
import math

import pytest

from gpt2.report.verdicts import FAIL, NOT_RUN, OPENAI_TOKENIZER, PASS, loss_reference
from gpt2.tokenizer.tokenizer import Tokenizer
from tests.report.inputs import OPENAI_WEIGHTS, WHOLE_HELLASWAG, fineweb_edu, inputs, section_of, verdict_of


@pytest.mark.parametrize(
    ("claim", "section", "metric", "passes", "fails"),
    [
        ("context", "pretrain", "val_loss", 2.69, 2.71),  # 4.5 - 1.8
        ("classification", "classification", "accuracy", 0.75, 0.74),
        ("instructions", "instruction", "test_loss", 3.4, 3.41),
        ("completions", "hellaswag", "acc_norm", 0.271, 0.269),
    ],
)
def test_a_verdict_changes_at_its_threshold(claim, section, metric, passes, fails):
    data = inputs()
    for value, expected in ((passes, PASS), (fails, FAIL)):
        data[section]["metrics"][metric] = value
        assert verdict_of(data, claim) == expected


@pytest.mark.parametrize("n_embd", [128, 768, 1600])
def test_the_expected_initial_loss_grows_with_the_width(n_embd):
    data = inputs()
    expected = math.log(300) + n_embd * 0.02**2 / 2
    for distance, status in ((-0.101, FAIL), (-0.099, PASS), (0.099, PASS), (0.101, FAIL)):
        data["pretrain"]["metrics"] |= {"n_embd": n_embd, "initial_loss": expected + distance}
        assert verdict_of(data, "initial_loss") == status


@pytest.mark.parametrize(
    ("case", "claim"), [(0, "logits"), (1, "greedy_tokens"), (2, "sampled_tokens"), (3, "gradients"), (4, None)]
)
def test_one_failing_case_fails_its_claim_and_the_overall_claim(case, claim):
    data = inputs()
    claims = ("logits", "greedy_tokens", "sampled_tokens", "gradients", "parity")
    assert [verdict_of(data, name) for name in claims] == [PASS] * 5
    data["parity"]["cases"][case]["passed"] = "False"
    assert {name for name in claims if verdict_of(data, name) == FAIL} == {claim, "parity"} - {None}


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({}, PASS),  # 0.9 ± 0.03 on repeated tokens, 0.1 ± 0.04 on text
        ({"induction": 0.199}, NOT_RUN),
        ({"ablation_repeated": 0.201}, PASS),
        ({"ablation_repeated": 0.199}, FAIL),  # within two standard errors of the effect on text, of 0.05
        ({"ablation_text": -0.9, "ablation_repeated": 0.15}, FAIL),  # the median head matters as much
        ({"ablation_text": -0.9, "ablation_repeated": 0.16}, PASS),
    ],
)
def test_an_induction_head_is_one_that_repeated_tokens_need(change, status):
    data = inputs()
    best = {"induction": 0.2, "ablation_text": 0.1, "ablation_repeated": 0.9} | change
    best |= {"ablation_text_stderr": 0.04, "ablation_repeated_stderr": 0.03}
    other = {"induction": 0.01, "ablation_text": 0.3, "ablation_repeated": 0.15}
    other |= dict.fromkeys(("ablation_text_stderr", "ablation_repeated_stderr"), 0.1)
    places = [{"model": "trained", "layer": layer, "head": 0} for layer in range(3)]
    rows = [place | values for place, values in zip(places, (other, best, other), strict=True)]
    data["attention"]["heads"] = [{key: str(value) for key, value in row.items()} for row in rows]
    data["attention"]["heads"].append({"model": "openai", "layer": "0", "head": "0", "induction": "0.9"})
    assert verdict_of(data, "induction_head") == status


@pytest.mark.parametrize(
    ("protocol", "metric", "near"), [("completion", "acc_norm", 0.2951), ("harness", "harness_acc_norm", 0.311)]
)
def test_openai_s_score_is_compared_only_under_its_own_protocol(protocol, metric, near):
    data, claim = inputs(), f"openai_{protocol}"
    assert verdict_of(data, claim) == NOT_RUN
    data["sets"]["hellaswag"], data["gpt2"] = WHOLE_HELLASWAG, OPENAI_WEIGHTS
    data["pretrain"]["metrics"] |= {"init": "gpt2", "steps": 0}
    data["hellaswag"]["metrics"] |= {"n": 10042, metric: near}
    assert verdict_of(data, claim) == PASS
    data["hellaswag"]["metrics"][metric] = near - 0.005
    assert verdict_of(data, claim) == FAIL
    train = copy.deepcopy(data)
    train["sets"]["hellaswag"]["selection"] = {"split": "train"}
    assert verdict_of(train, claim) == NOT_RUN
    for section, change in (("pretrain", {"steps": 1}), ("hellaswag", {"n": 1000}), ("pretrain", {"init": "scratch"})):
        other = copy.deepcopy(data)
        other[section]["metrics"] |= change
        assert verdict_of(other, claim) == NOT_RUN


def test_openai_s_loss_is_shown_only_for_its_corpus_vocabulary_and_context():
    data = fineweb_edu()
    assert loss_reference(data) == ("FineWeb-Edu", 3.292)
    assert "The green line is the published loss" in section_of(data, "training")
    data["sets"]["corpus"]["repo"] = "HuggingFaceFW/fineweb"
    assert loss_reference(data) == ("FineWeb", 3.425)
    for place, change in (
        (("sets", "corpus"), {"repo": "HuggingFaceFW/fineweb-2"}),
        (("sets", "corpus"), {"selection": {"files": ["*"]}}),
        (("tokens",), {"tokenizer": "ab" * 32}),
        (("pretrain", "metrics"), {"block_size": 512}),
    ):
        other = section = fineweb_edu()
        for key in place:
            section = section[key]
        section |= change
        assert loss_reference(other) is None
        assert "green" not in section_of(other, "training")


@pytest.mark.realdata
def test_openai_s_vocabulary_is_known_by_its_fingerprint(real_data, monkeypatch):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(real_data / "tiktoken"))
    assert Tokenizer.gpt2().fingerprint == OPENAI_TOKENIZER
