"""The comparison with transformers passes for what we write, and fails for what differs."""

import pytest
import torch

from gpt2 import parity, weights
from gpt2.bpe import train_bpe
from gpt2.config import ParityParams
from gpt2.errors import InputError
from gpt2.tokenizer import Tokenizer
from tests.small import small_model

PARAMS = ParityParams(prompts=2, prompt_tokens=6, new_tokens=4)
TEXT = "the cat sat on the mat, and the dog sat on the log"


@pytest.fixture
def directory(tmp_path):
    tokenizer = Tokenizer(train_bpe([TEXT], 270))
    tokenizer.save(tmp_path)
    weights.save(small_model(block_size=32, vocab_size=tokenizer.vocab_size), tmp_path)
    return tmp_path


def test_every_case_passes_for_our_checkpoint(directory, capsys):
    random_state = torch.get_rng_state()
    metrics, cases = parity.compare(directory, PARAMS, seed=1)
    assert [case for case in cases if not case["passed"]] == []
    assert metrics["cases_passed"] == metrics["cases"] == len(cases) == 12
    assert metrics["max_abs_logit_diff"] < parity.LOGIT_TOLERANCE
    assert metrics["loss_diff"] < parity.LOSS_TOLERANCE
    assert metrics["greedy_match"] == 1.0
    compared = {(case["case"], case["quantity"]): case["compared"] for case in cases}
    assert compared["checkpoint", "logits"] == 2 * 6 * 270
    assert compared["checkpoint", "greedy tokens"] == 2 * 4
    assert compared["gpt2-xl", "names and shapes"] == 580
    assert torch.equal(torch.get_rng_state(), random_state)
    assert capsys.readouterr().err == ""


def test_a_small_difference_of_the_model_is_seen(directory):
    theirs = parity._their_checkpoint(directory)
    with torch.no_grad():
        theirs.transformer.h[0].attn.c_attn.bias[:40] += 0.1
    cases = parity._model_cases("changed", weights.load(directory).eval(), theirs, PARAMS, seed=1)
    assert [case["passed"] for case in cases[:2]] == [False, False]


def test_another_order_of_greedy_tokens_is_seen(directory):
    theirs = parity._their_checkpoint(directory)
    with torch.no_grad():
        theirs.transformer.ln_f.weight.neg_()
    metrics = parity._metrics(parity._model_cases("changed", weights.load(directory).eval(), theirs, PARAMS, seed=1))
    assert metrics["greedy_match"] < 1.0
    assert metrics["cases_passed"] == 0


def test_another_tokenizer_is_seen(directory):
    ours = Tokenizer.load(directory)
    Tokenizer(train_bpe([TEXT[::-1]], 270)).save(directory)
    assert not parity._tokenizer_case(directory, ours)["passed"]
    assert not parity._text_case(directory, weights.load(directory).eval(), ours, PARAMS)["passed"]


def test_text_prompts_fit_the_smallest_context(directory):
    params = ParityParams(prompts=1, prompt_tokens=2, new_tokens=30)
    assert parity._text_case(directory, weights.load(directory).eval(), Tokenizer.load(directory), params)["passed"]


def test_prompts_must_fit_the_context(directory):
    with pytest.raises(InputError, match=r"parity.prompt_tokens \+ parity.new_tokens = 30 \+ 3: .* block_size = 32"):
        parity.compare(directory, ParityParams(prompts=1, prompt_tokens=30, new_tokens=3), seed=1)
