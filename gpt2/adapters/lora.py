"""Low-rank adaptation (Hu et al. 2021): frozen matrices learn an update of rank r, saved in `peft`'s format.

Shapes: B batch, T time, r rank, I inputs, O outputs of a linear layer.
"""

import copy
import math
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from gpt2.common.files import replacing, write_json
from gpt2.config.params import LoRAParams
from gpt2.model.gpt import GPT


class LoRALinear(nn.Module):
    """A frozen linear layer plus `(alpha / r) B A x`. B starts at zero, so the layer starts unchanged (§4.1)."""

    def __init__(self, base: nn.Linear, params: LoRAParams):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.scale = params.alpha / params.rank
        self.lora_A = nn.Parameter(base.weight.new_empty(params.rank, base.in_features))  # (r, I)
        self.lora_B = nn.Parameter(base.weight.new_zeros(base.out_features, params.rank))  # (O, r)
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, T, I) to (B, T, O)."""
        return self.base(x) + F.linear(F.linear(x, self.lora_A), self.lora_B) * self.scale

    def merged(self) -> nn.Linear:
        """A plain layer with the same output: W + (alpha / r) B A, summed in float64 and rounded once."""
        update = self.scale * self.lora_B.cpu().double() @ self.lora_A.cpu().double()  # (O, I)
        plain = copy.deepcopy(self.base)
        plain.weight.copy_(self.base.weight.cpu().double() + update)
        return plain


def adapters(model: nn.Module) -> Iterator[tuple[str, LoRALinear]]:
    """The adapted layers with their names."""
    return ((name, module) for name, module in model.named_modules() if isinstance(module, LoRALinear))


def add_lora(model: GPT, params: LoRAParams) -> None:
    """Freezes the model and adds a trainable adapter to the target layers of every block."""
    model.requires_grad_(False)
    for block in model.h:
        for target in params.targets:
            parent, name = target.split(".")
            module = getattr(block, parent)
            setattr(module, name, LoRALinear(getattr(module, name), params))


@torch.no_grad()
def merge(model: GPT) -> dict[str, LoRALinear]:
    """Replaces every adapter by a plain layer, so that the model is a plain GPT-2; returns the adapters."""
    merged = dict(adapters(model))
    for name, adapter in merged.items():
        model.set_submodule(name, adapter.merged())
    return merged


def save_adapter(
    merged: dict[str, LoRALinear], params: LoRAParams, directory: Path, base: str, revision: str | None = None
) -> None:
    """Writes the adapters that `merge` returned for `peft.PeftModel.from_pretrained`.

    `base` is the frozen model: a directory, or the name of a repository on the hub, of which `revision` is a commit.
    """
    state = {}
    for name, adapter in merged.items():
        prefix = f"base_model.model.transformer.{name}"
        state[f"{prefix}.lora_A.weight"] = adapter.lora_A.detach().cpu().contiguous()
        state[f"{prefix}.lora_B.weight"] = adapter.lora_B.detach().cpu().contiguous()
    with replacing(directory / "adapter_model.safetensors") as temporary:
        save_file(state, temporary, metadata={"format": "pt"})
    write_json(
        directory / "adapter_config.json",
        {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base,
            "revision": revision,
            "r": params.rank,
            "lora_alpha": params.alpha,
            "lora_dropout": 0.0,
            "target_modules": list(params.targets),
            "fan_in_fan_out": True,  # transformers stores GPT-2's matrices as (inputs, outputs)
            "bias": "none",
            "inference_mode": True,
        },
    )
