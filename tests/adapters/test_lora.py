"""LoRA: new adapters change nothing, merging keeps the outputs, and peft loads them."""

import peft
import pytest
import torch
from transformers import GPT2LMHeadModel

from gpt2.adapters import lora
from gpt2.config.params import LoRAParams
from gpt2.model import checkpoint
from gpt2.model.gpt import GPT
from tests.small import CONFIG, small_model

TARGETS = ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]
PARAMS = LoRAParams(rank=3, alpha=6.0, targets=TARGETS)
IDS = torch.randint(0, CONFIG.vocab_size, (2, 16), generator=torch.Generator().manual_seed(0))


def adapted(params: LoRAParams) -> GPT:
    """A model whose adapters have learned something."""
    model = small_model(dropout=0.0)
    lora.add_lora(model, params)
    for _, adapter in lora.adapters(model):
        torch.nn.init.normal_(adapter.lora_B, std=0.1)
    return model


@pytest.fixture
def tuned() -> GPT:
    return adapted(PARAMS)


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


@pytest.mark.parametrize(
    "params",
    [
        PARAMS,
        LoRAParams(rank=1, alpha=0.5, targets=TARGETS[:1]),
        LoRAParams(rank=8, alpha=16.0, targets=[TARGETS[3], TARGETS[1]]),
    ],
    ids=["all", "one", "projections"],
)
@torch.no_grad()
def test_peft_computes_and_merges_the_same(params, tmp_path):
    ours = adapted(params)
    checkpoint.save(small_model(dropout=0.0), tmp_path / "base")
    lora.save_adapter(dict(lora.adapters(ours)), params, tmp_path / "adapter", "base")
    base = GPT2LMHeadModel.from_pretrained(tmp_path / "base").eval()
    plain = base(IDS).logits
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    assert (theirs(IDS).logits - plain).abs().max() > 0.05
    assert (theirs(IDS).logits - ours.eval()(IDS)).abs().max() < 1e-5
    config = theirs.peft_config["default"]
    assert (config.r, config.lora_alpha, config.lora_dropout) == (params.rank, params.alpha, 0.0)
    assert config.target_modules == set(params.targets)
    lora.merge(ours)
    merged = checkpoint.to_hf(ours.state_dict())
    for name, tensor in theirs.merge_and_unload().transformer.state_dict().items():
        assert (tensor - merged[f"transformer.{name}"]).abs().max() < 1e-6, name
