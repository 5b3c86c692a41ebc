"""The same weights in both models, in both directions."""

import pytest
import torch

from gpt2.evaluation.parity import pairs
from gpt2.model import checkpoint
from gpt2.model.openai import OPENAI_SHAPES, openai_config


@pytest.fixture
def tiny_shapes(monkeypatch):
    """Tiny shapes under the names of OpenAI's models."""
    for name, n_layer in (("gpt2", 2), ("gpt2-large", 5)):
        monkeypatch.setitem(OPENAI_SHAPES, name, {"n_layer": n_layer, "n_head": 1, "n_embd": 8})


def test_converted_weights_equal_theirs_bit_by_bit(pair):
    case = pairs.weights_case(pair)
    assert (case.value, case.compared) == (0.0, 28)
    with torch.no_grad():
        pair.theirs.transformer.h[1].ln_2.bias[0] += 1e-6
    assert pairs.weights_case(pair).value == pytest.approx(1 / 28)


def test_a_parameter_that_one_model_lacks_is_counted(pair):
    pair.theirs.transformer.register_buffer("more", torch.zeros(1))
    assert pairs.weights_case(pair).value == pytest.approx(1 / 29)
    del pair.theirs.transformer.more, pair.ours.h[1].ln_2.bias
    assert pairs.weights_case(pair).value == pytest.approx(1 / 28)


def test_random_weights_repeat_and_reach_both_models(tiny_shapes):
    first, again, other = (pairs.random_pair("gpt2", seed) for seed in (1, 1, 2))
    assert first.name == "gpt2, random weights"
    assert pairs.weights_case(first).passed
    assert torch.equal(first.ours.wte.weight, again.ours.wte.weight)
    assert not torch.equal(first.ours.wte.weight, other.ours.wte.weight)
    tokens = torch.randint(50257, (1, 5))
    torch.testing.assert_close(first.ours(tokens), first.theirs(tokens).logits, rtol=0, atol=1e-4)


def test_the_name_of_a_shortened_model_gives_its_depth(tiny_shapes, tmp_path):
    cut = pairs.random_pair("gpt2-large", seed=1)
    assert cut.name == "gpt2-large, random weights, 2 of 5 blocks, 4,096 tokens"
    assert len(cut.ours.h) == len(cut.theirs.transformer.h) == 2


def test_openai_s_weights_are_recognized_by_their_shape_and_cut_like_random_ones(tiny_shapes, tmp_path, directory):
    model = pairs.GPT(openai_config("gpt2-large"))
    checkpoint.save(model, tmp_path / "released")
    assert pairs.shape_of(tmp_path / "released") == "gpt2-large"
    assert pairs.shape_of(directory) is None
    pair = pairs.openai_pair(tmp_path / "released", "gpt2-large")
    assert pair.name == "OpenAI's gpt2-large, 2 of 5 blocks"
    assert pairs.weights_case(pair).passed
    assert torch.equal(pair.ours.h[1].mlp.c_fc.weight, model.h[1].mlp.c_fc.weight)


def test_names_and_shapes_of_all_four_agree():
    cases = [pairs.shape_case(shape, shape) for shape in OPENAI_SHAPES]
    assert [(case.value, case.compared) for case in cases] == [(0.0, 148), (0.0, 292), (0.0, 436), (0.0, 580)]
