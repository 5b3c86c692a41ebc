"""Dropout: it acts in training alone, without bias, and its masks depend on seed, step and micro-batch alone."""

import pytest
import torch
from torch import nn

from gpt2.runtime.device import can_compile
from gpt2.training.work import seed_dropout
from tests.small import CONFIG, small_model

IDX = torch.arange(3 * 16).view(3, 16)


def test_masks_depend_on_seed_step_and_micro_batch():
    model = small_model(dropout=0.5).train()

    def logits(*numbers: int) -> torch.Tensor:
        seed_dropout(*numbers)
        return model(IDX)

    first = logits(1, 2, 3)
    assert torch.equal(logits(1, 2, 3), first)
    assert not any(torch.equal(logits(*numbers), first) for numbers in ((2, 2, 3), (1, 3, 3), (1, 2, 4), (1, 3, 2)))
    model.eval()
    assert torch.equal(logits(1, 2, 3), logits(4, 5, 6))


@torch.no_grad()
@pytest.mark.parametrize("output_attentions", [None, []], ids=["fused", "explicit"])
def test_attention_drops_weights_and_scales_up_the_rest(output_attentions):
    attention = small_model(dropout=0.4).h[0].attn
    x = torch.randn(1, 6, CONFIG.n_embd, generator=torch.Generator().manual_seed(1))
    expected = attention(x)
    attention.train()
    attention.resid_dropout.p = 0.0
    y = attention(x.expand(4000, -1, -1), output_attentions=output_attentions)  # 4,000 masks of one sequence
    error = y.std(dim=0) / 4000**0.5
    assert ((y.mean(dim=0) - expected) / error).abs().max() < 5 and error.min() > 0


@pytest.mark.skipif(not can_compile("auto"), reason="there is no C++ compiler")
def test_compiled_dropout_follows_the_seed_and_is_new_at_each_step():
    model = small_model(n_layer=1, dropout=0.1).train()
    compiled = torch.compile(model)

    def losses(forward: nn.Module) -> torch.Tensor:
        values = []
        for step in range(6):
            seed_dropout(2, step, 0)
            values.append(forward(IDX, IDX).detach())
        return torch.stack(values)

    first = losses(compiled)
    with torch._dynamo.config.patch(error_on_recompile=True):
        assert torch.equal(losses(compiled), first)
    assert first.diff().abs().min() > 1e-3
    spread = losses(model).std()  # other masks, of the same distribution
    assert abs(first.mean() - losses(model).mean()) < 3 * spread and 0.2 < first.std() / spread < 5
