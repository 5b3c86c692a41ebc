"""LoRA: starts as nothing, merges exactly, loads in peft."""

import peft
import pytest
import torch
from transformers import GPT2LMHeadModel

from gpt2 import lora, weights
from gpt2.config import LoRAParams
from tests.small import CONFIG, small_model

PARAMS = LoRAParams(rank=3, alpha=6.0, dropout=0.0, targets=["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"])
IDS = torch.randint(0, CONFIG.vocab_size, (2, 16), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def tuned():
    """A model whose adapters have learned something."""
    model = small_model(dropout=0.0)
    lora.add_lora(model, PARAMS)
    for _, adapter in lora.adapters(model):
        torch.nn.init.normal_(adapter.lora_B, std=0.1)
    return model


def test_new_adapters_change_nothing_and_alone_are_trained():
    model = small_model(dropout=0.0)
    before = model(IDS)
    lora.add_lora(model, PARAMS)
    assert torch.equal(model(IDS), before)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert len(trained) == 2 * 4 * CONFIG.n_layer and all(".lora_" in name for name in trained)
    model(IDS, IDS).backward()
    assert all((parameter.grad is not None) == parameter.requires_grad for parameter in model.parameters())


@torch.no_grad()
def test_merging_keeps_the_outputs_and_the_plain_shape(tuned):
    before = tuned(IDS)
    lora.merge(tuned)
    assert (tuned(IDS) - before).abs().max() < 1e-5
    assert tuned.state_dict().keys() == small_model().state_dict().keys()


@torch.no_grad()
def test_peft_loads_the_adapter_with_equal_logits(tuned, tmp_path):
    weights.save(small_model(dropout=0.0), tmp_path / "base")
    lora.save_adapter(tuned, PARAMS, tmp_path / "adapter", "base")
    base = GPT2LMHeadModel.from_pretrained(tmp_path / "base").eval()
    plain = base(IDS).logits
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()(IDS).logits
    assert (theirs - plain).abs().max() > 0.1
    assert (theirs - tuned(IDS)).abs().max() < 1e-5
