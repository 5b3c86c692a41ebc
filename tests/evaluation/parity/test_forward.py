"""Each comparison passes for equal models, and fails for a model that differs in what it compares."""

import copy

import pytest
import torch
from torch.nn import functional as F

from gpt2.evaluation.parity import forward
from gpt2.evaluation.parity.decoding import random_prompts

TOKENS = torch.randint(270, (3, 13), generator=torch.Generator().manual_seed(3))


def all_cases(pair) -> dict:
    """All cases by quantity. The last ones convert the models."""
    prompts = random_prompts(270, 3, 12, seed=5)
    cases = [
        *forward.forward_cases(pair, TOKENS),
        *forward.training_cases(pair, TOKENS),
        forward.cache_case(pair, TOKENS),
        forward.padding_case(pair, prompts),
        forward.context_case(pair, torch.randint(270, (1, 32))),
        *forward.bfloat16_cases(pair, TOKENS),
    ]
    return {case.quantity: case for case in cases}


def test_equal_models_pass_everything(pair):
    cases = all_cases(pair)
    assert len(cases) == 9
    assert [case for case in cases.values() if not case.passed] == []
    assert cases["logits"].compared == 3 * 13 * 270
    assert cases["residual stream after every layer"].compared == 4 * 3 * 13 * 32
    assert cases["loss"].compared == 3 * 12
    assert cases["gradients by all parameters"].compared == len(list(pair.ours.parameters()))


def test_one_changed_bias_fails_every_case(pair):
    with torch.no_grad():
        pair.theirs.transformer.h[0].attn.c_attn.bias[:40] += 0.5
    assert [case for case in all_cases(pair).values() if case.passed] == []


def test_an_error_that_the_next_block_undoes_fails_only_in_the_residual_stream(pair):
    first, second = pair.theirs.transformer.h
    first.register_forward_hook(lambda _layer, _inputs, output: output + 0.01)
    second.register_forward_pre_hook(lambda _layer, inputs: (inputs[0] - 0.01, *inputs[1:]))
    residual, logits = forward.forward_cases(pair, TOKENS)
    assert not residual.passed
    assert logits.passed


def test_a_wrong_gradient_fails_although_the_loss_is_right(pair):
    pair.theirs.transformer.h[1].mlp.c_fc.weight.register_hook(lambda gradient: gradient * 1.001)
    loss, gradients = forward.training_cases(pair, TOKENS)
    assert loss.passed
    assert gradients.value == pytest.approx(1e-3, rel=0.01)
    assert not gradients.passed


def test_gradients_are_those_of_the_mean_loss(pair):
    seen = []
    pair.theirs.transformer.ln_f.weight.register_hook(lambda gradient: seen.append(gradient.clone()))
    list(forward.training_cases(pair, TOKENS))
    model = copy.deepcopy(pair.ours).double()
    F.cross_entropy(model(TOKENS[:, :-1]).flatten(0, 1), TOKENS[:, 1:].flatten()).backward()
    torch.testing.assert_close(seen[0].double(), model.ln_f.weight.grad, rtol=1e-4, atol=1e-6)
    assert all(parameter.grad is None for parameter in pair.ours.parameters())


def test_attention_to_padding_fails(pair):
    pair.ours.wte.weight.data[0] += 1  # the padding token, which no prompt holds
    prompts = [prompt.clamp(min=1) for prompt in random_prompts(270, 3, 12, seed=5)]
    pair.theirs.transformer.wte.weight.data[0] += 1
    assert forward.padding_case(pair, prompts).passed
    blind = pair.theirs.forward
    pair.theirs.forward = lambda ids, attention_mask, **more: blind(ids, **more)
    assert not forward.padding_case(pair, prompts).passed


def test_positions_that_do_not_continue_from_the_cache_fail(pair):
    aware = pair.theirs.forward
    pair.theirs.forward = lambda ids, **more: aware(ids, position_ids=torch.arange(ids.size(1))[None], **more)
    assert not forward.cache_case(pair, TOKENS).passed
    assert forward.context_case(pair, torch.randint(270, (1, 32))).passed
