"""Generated tokens: equal tokens pass, and different ones are counted."""

import pytest
import torch

from gpt2.evaluation.parity import decoding

PROMPTS = decoding.random_prompts(270, 4, 9, seed=11)


def test_prompts_are_of_several_lengths_and_repeat():
    prompts = decoding.random_prompts(1000, 50, 16, seed=1)
    assert {len(prompt) for prompt in prompts} == set(range(8, 17))
    assert all(map(torch.equal, prompts, decoding.random_prompts(1000, 50, 16, seed=1)))
    assert not torch.equal(prompts[0], decoding.random_prompts(1000, 50, 16, seed=2)[0])


def test_greedy_tokens_of_ragged_prompts_are_equal(pair):
    case = decoding.greedy_case(pair, PROMPTS, new_tokens=10)
    assert (case.value, case.compared, case.passed) == (0.0, 40, True)


@pytest.mark.parametrize("name", decoding.SAMPLINGS)
def test_sampled_tokens_are_equal_and_torch_s_generator_is_unchanged(pair, name):
    state = torch.get_rng_state()
    case = decoding.sampling_case(pair, name, PROMPTS, new_tokens=10, seed=5)
    assert (case.value, case.compared, case.passed) == (0.0, 40, True)
    assert torch.equal(torch.get_rng_state(), state)


def test_tokens_of_another_model_fail(pair):
    with torch.no_grad():
        pair.theirs.transformer.ln_f.weight.neg_()
    assert decoding.greedy_case(pair, PROMPTS, new_tokens=10).value > 0.5
    assert decoding.sampling_case(pair, decoding.ALL, PROMPTS, new_tokens=10, seed=5).value > 0.5


@pytest.mark.parametrize("key", ["temperature", "top_k", "top_p", "repetition_penalty"])
def test_a_setting_that_is_ignored_fails(pair, key):
    with torch.no_grad():
        for model in (pair.ours, pair.theirs.transformer):
            model.ln_f.weight *= 5  # so that probabilities differ enough for a penalty to count
    theirs = pair.theirs.generate
    without = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0}[key]
    pair.theirs.generate = lambda *args, **settings: theirs(*args, **settings | {key: without})
    (name,) = [name for name in decoding.SAMPLINGS if name.replace("-", "_").replace(" ", "_") == key]
    cases = [decoding.sampling_case(pair, name, PROMPTS, new_tokens=20, seed=seed) for seed in range(4)]
    assert not all(case.passed for case in cases)
