"""The whole table, with small shapes instead of OpenAI's."""

import pytest
import torch

from gpt2.common.errors import InputError
from gpt2.config.params import GPTConfig, ParityParams
from gpt2.evaluation.parity.cases import metrics
from gpt2.evaluation.parity.compare import compare, fitted
from gpt2.model.checkpoint import save
from gpt2.model.gpt import GPT
from gpt2.model.openai import OPENAI_SHAPES, openai_config
from gpt2.tokenizer.tokenizer import Tokenizer

PARAMS = {"prompts": 3, "tokens": 6}


@pytest.fixture(autouse=True)
def tiny_shapes(monkeypatch):
    for i, name in enumerate(OPENAI_SHAPES):
        monkeypatch.setitem(OPENAI_SHAPES, name, {"n_layer": 4, "n_head": 1, "n_embd": 4 + 4 * i})


def test_every_case_passes_for_our_checkpoint(directory, tmp_path_factory, capsys):
    random_state = torch.get_rng_state()
    cases = compare(directory, tmp_path_factory.mktemp("none"), ParityParams(**PARAMS), seed=1)
    assert [case for case in cases if not case.passed] == []
    found = metrics(cases)
    assert found["cases_passed"] == found["cases"] == len(cases) == 48
    assert found["greedy_match"] == found["sampled_match"] == 1.0
    compared = {(case.case, case.quantity): case.compared for case in cases}
    assert compared["our checkpoint", "greedy tokens"] == 3 * 6
    assert compared["our checkpoint", "sampled tokens, top-p"] == 2 * 6
    assert compared["our checkpoint", "logits, full context"] == 32 * 270
    assert compared["gpt2-medium, random weights, 2 of 4 blocks, 4,096 tokens", "logits, full context"] == 1024 * 4096
    assert compared["gpt2, random weights", "sampled tokens, all four"] == 2 * 6
    assert "gpt2-xl, random weights, 2 of 4 blocks, 4,096 tokens" in {case.case for case in cases}
    assert torch.equal(torch.get_rng_state(), random_state)
    assert capsys.readouterr().err == ""


def test_prompts_and_continuations_are_cut_to_the_context(directory, tmp_path):
    assert [fitted(ParityParams(prompts=1, tokens=n), directory).tokens for n in (4, 16, 17, 4096)] == [4, 16, 16, 16]
    save(GPT(GPTConfig(block_size=7, n_layer=1, n_head=1, n_embd=4, vocab_size=270)), tmp_path)
    with pytest.raises(InputError, match=r"block_size = 7: expected 8 or more"):
        fitted(ParityParams(prompts=1, tokens=4), tmp_path)


def test_openai_s_weights_replace_random_ones(directory, tmp_path_factory):
    released = tmp_path_factory.mktemp("released")
    save(GPT(openai_config("gpt2-medium")), released)
    Tokenizer.load(directory).save(released)
    names = {case.case for case in compare(directory, released, ParityParams(**PARAMS), seed=1)}
    assert "OpenAI's gpt2-medium" in names
    assert "gpt2-medium, random weights" not in names
