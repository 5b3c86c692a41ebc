"""The optimizers and learning rates that GPT-2-sized models are trained with."""

import math
from collections.abc import Iterable

import torch
from torch import nn

from gpt2.common.errors import InputError
from gpt2.config.params import FineTuneParams, OptimParams, RunParams
from gpt2.training.muon import Muon

BETA1 = 0.9  # AdamW: decay rate of the running mean of the gradient

# Suffixes of the names of a block's weights, and how many matrices each holds: attn.c_attn.weight (3C, C) stacks
# the (C, C) matrices of queries, keys and values, so that one product computes all three.
HIDDEN = {"attn.c_attn.weight": 3, "attn.c_proj.weight": 1, "mlp.c_fc.weight": 1, "mlp.c_proj.weight": 1}


def adamw(parameters: Iterable[nn.Parameter], params: OptimParams) -> torch.optim.AdamW:
    """AdamW as in GPT-3 (Brown et al. 2020, appendix B), with weight decay for matrices and embeddings only."""
    parameters = list(parameters)
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": params.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=params.lr, betas=(BETA1, params.beta2), fused=True)


class MuonAdamW:
    """Muon for the matrices of the blocks and AdamW for all other parameters, with the interface of one optimizer."""

    def __init__(self, trained: dict[str, nn.Parameter], params: OptimParams):
        """`trained`: parameters by name. Raises InputError if none is a matrix of a block."""
        parts = {name: n for name in trained for end, n in HIDDEN.items() if name.endswith(end)}
        if not parts:
            raise InputError("optimizer = 'muon': no matrix of a block is trained here; use adamw")
        self.muon = Muon({trained[name]: n for name, n in parts.items()}, params.lr, params.weight_decay)
        self.adamw = adamw((parameter for name, parameter in trained.items() if name not in parts), params)

    @property
    def param_groups(self) -> list[dict]:
        """The parameters, whose gradients GradScaler unscales, and their learning rates."""
        return [self.muon.group, *self.adamw.param_groups]

    def step(self) -> None:
        """Updates the model from the gradients of its parameters."""
        self.muon.step()
        self.adamw.step()

    def zero_grad(self) -> None:
        """Frees the gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def state_dict(self) -> dict:
        """The state as plain dicts, lists and tensors."""
        return {"muon": self.muon.state_dict(), "adamw": self.adamw.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        """Restores what `state_dict` returned."""
        self.muon.load_state_dict(state["muon"])
        self.adamw.load_state_dict(state["adamw"])


def make_optimizer(model: nn.Module, params: OptimParams) -> torch.optim.AdamW | MuonAdamW:
    """The optimizer that `params` names, for the trainable parameters. The model must be on its device already.

    Raises InputError for muon if no matrix of a block is trained.
    """
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    return MuonAdamW(trained, params) if params.optimizer == "muon" else adamw(trained.values(), params)


def fine_tuning(params: FineTuneParams) -> OptimParams:
    """The params of a fine-tuning run, completed with the settings that all fine-tuning runs share."""
    return OptimParams(
        **params.model_dump(include=set(RunParams.model_fields)),
        optimizer="adamw",
        schedule="cosine",
        min_lr_rate=0.1,
        beta2=0.95,
        grad_clip=1.0,
    )


def learning_rate(step: int, params: OptimParams) -> float:
    """Linear warmup to `lr`, then the decay of `schedule`, which ends at `min_lr_rate * lr` in the last step.

    cosine: half a cosine (Loshchilov and Hutter 2017). wsd: `lr` is constant until the last `decay_rate * steps` steps,
    in which it falls linearly (Hu et al. 2024, §4; Hägele et al. 2024).
    """
    warmup = warmup_steps(params)
    if step < warmup:
        return params.lr * (step + 1) / warmup
    after_warmup, remaining = params.steps - warmup, params.steps - 1 - step
    if params.schedule == "wsd":
        decay_steps = params.steps - constant_steps(params)
        share = min(1.0, remaining / decay_steps) if decay_steps else 1.0  # from 0 at the lowest rate to 1 at lr
    else:
        share = 0.5 * (1 - math.cos(math.pi * remaining / max(1, after_warmup - 1)))
    return params.lr * (params.min_lr_rate + (1 - params.min_lr_rate) * share)  # exactly lr where share is 1


def warmup_steps(params: OptimParams) -> int:
    """The steps of the warmup, which end before the last step however short the run is."""
    return min(params.warmup_steps, max(0, params.steps - 1))


def constant_steps(params: OptimParams) -> int | None:
    """wsd: the number of steps before the decay, which do not depend on how long the run is. None for cosine."""
    if params.schedule != "wsd":
        return None
    return params.steps - min(round(params.decay_rate * params.steps), params.steps - warmup_steps(params))
