"""Claims: each turns at its threshold, and what was not measured is not called a pass."""

import copy

import pytest

from gpt2.report.verdicts import FAIL, NOT_RUN, OPENAI_TOKENIZER, PASS, loss_reference
from gpt2.tokenizer.tokenizer import Tokenizer
from tests.report.inputs import WHOLE_HELLASWAG, fineweb_edu, inputs, section_of, verdict_of


@pytest.mark.parametrize(
    ("claim", "section", "metric", "passes", "fails"),
    [
        ("ln V", "pretrain", "initial_loss", 5.85, 5.86),  # ln 300 = 5.704
        ("ln V", "pretrain", "initial_loss", 5.56, 5.55),
        ("context", "pretrain", "val_loss", 2.69, 2.71),  # 4.5 - 1.8
        ("classifies", "classification", "accuracy", 0.75, 0.74),
        ("instructions", "instruction", "test_loss", 3.4, 3.41),
        ("chance", "hellaswag", "acc_norm", 0.271, 0.269),
    ],
)
def test_a_verdict_turns_at_its_threshold(claim, section, metric, passes, fails):
    data = inputs()
    for value, expected in ((passes, PASS), (fails, FAIL)):
        data[section]["metrics"][metric] = value
        assert verdict_of(data, claim) == expected


@pytest.mark.parametrize(
    ("case", "claim"), [(0, "same logits"), (1, "greedy"), (2, "random numbers"), (3, "gradients"), (4, None)]
)
def test_one_failing_case_fails_its_claim_and_the_one_of_all(case, claim):
    data = inputs()
    claims = ("same logits", "greedy", "random numbers", "gradients", "Every comparison")
    assert [verdict_of(data, each) for each in claims] == [PASS] * 5
    data["parity"]["cases"][case]["passed"] = "False"
    failed = [each for each in claims if verdict_of(data, each) == FAIL]
    assert failed == [*([claim] if claim else []), "Every comparison"]


def test_what_was_not_measured_is_not_called_a_pass():
    assert {verdict_of(inputs(), part) for part in ("(completion)", "(harness)")} == {NOT_RUN}


@pytest.mark.parametrize(
    ("protocol", "metric", "near"), [("completion", "acc_norm", 0.2951), ("harness", "harness_acc_norm", 0.311)]
)
def test_openai_s_score_is_compared_under_its_own_protocol_alone(protocol, metric, near):
    data, claim = inputs(), f"measured for it ({protocol})"
    data["sets"]["hellaswag"] = WHOLE_HELLASWAG
    data["gpt2"] = {"source": "hub", "repo": "openai-community/gpt2", "revision": "main", "commit": "c"}
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


def test_openai_s_loss_stands_beside_its_corpus_vocabulary_and_context_alone():
    data = fineweb_edu()
    assert loss_reference(data) == ("FineWeb-Edu", 3.292)
    assert "The green one is OpenAI’s 124M" in section_of(data, "training")
    data["sets"]["corpus"]["repo"] = "HuggingFaceFW/fineweb"
    assert loss_reference(data) == ("FineWeb", 3.425)
    for path, value in (
        (("sets", "corpus", "repo"), "HuggingFaceFW/fineweb-2"),
        (("sets", "corpus", "selection"), {"files": ["*"]}),
        (("tokens", "tokenizer"), "ab" * 32),
        (("pretrain", "metrics", "block_size"), 512),
    ):
        other = fineweb_edu()
        *above, last = path
        place = other
        for key in above:
            place = place[key]
        place[last] = value
        assert loss_reference(other) is None
        assert "green" not in section_of(other, "training")


@pytest.mark.realdata
def test_openai_s_vocabulary_is_known_by_its_fingerprint(real_data, monkeypatch):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(real_data / "tiktoken"))
    assert Tokenizer.gpt2().fingerprint == OPENAI_TOKENIZER
