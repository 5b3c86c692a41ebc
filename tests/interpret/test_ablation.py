"""Mean ablation equals a forward pass that is written by hand without the head, in float64."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from gpt2.interpret.ablation import ablation, loss_changes
from gpt2.interpret.scores import repeated_tokens
from tests.small import small_model

B, T, START = 3, 10, 5  # the second half is scored


def norm(x: np.ndarray, weights: dict, name: str) -> np.ndarray:
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5)
    return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def losses(weights: dict, idx: np.ndarray, n_layer: int, n_head: int, removed: tuple[int, int] | None) -> np.ndarray:
    """The loss (B,) of each sequence by GPT-2 in numpy; the head (layer, head) `removed` adds its mean."""
    linear = lambda x, name: x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]  # noqa: E731
    x = weights["wte.weight"][idx] + weights["wpe.weight"][: idx.shape[1]]  # (B, T, C)
    D = x.shape[2] // n_head
    for layer in range(n_layer):
        q, k, v = np.split(linear(norm(x, weights, f"h.{layer}.ln_1"), f"h.{layer}.attn.c_attn"), 3, axis=2)
        attended = np.zeros_like(x)
        for head in range(n_head):
            own = slice(head * D, (head + 1) * D)
            scores = q[..., own] @ k[..., own].transpose(0, 2, 1) / math.sqrt(D)  # (B, T, T)
            A = np.exp(scores) * np.tri(idx.shape[1])
            out = A / A.sum(-1, keepdims=True) @ v[..., own]  # (B, T, D)
            if removed == (layer, head):
                out = np.broadcast_to(out.reshape(-1, D).mean(0), out.shape)
            attended += out @ weights[f"h.{layer}.attn.c_proj.weight"][:, own].T
        x = x + attended + weights[f"h.{layer}.attn.c_proj.bias"]
        a = linear(norm(x, weights, f"h.{layer}.ln_2"), f"h.{layer}.mlp.c_fc")
        gelu = 0.5 * a * (1 + np.tanh(math.sqrt(2 / math.pi) * (a + 0.044715 * a**3)))
        x = x + linear(gelu, f"h.{layer}.mlp.c_proj")
    logits = norm(x, weights, "ln_f") @ weights["wte.weight"].T
    logprobs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    scored = np.take_along_axis(logprobs[:, START - 1 : -1], idx[:, START:, None], axis=2)
    return -scored[..., 0].mean(1)


def test_the_change_of_the_loss_is_that_of_a_forward_pass_written_without_the_head():
    model = small_model(n_layer=3, dropout=0.0).double()
    idx = torch.randint(300, (B, T), generator=torch.Generator().manual_seed(1))
    logits_before, changes = model(idx), loss_changes(model, idx)
    weights = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    whole = losses(weights, idx.numpy(), 3, 4, None)
    nats = F.cross_entropy(logits_before[:, START - 1 : -1].transpose(1, 2), idx[:, START:], reduction="none")
    np.testing.assert_allclose(whole, nats.detach().mean(1).numpy(), rtol=1e-10)
    for head in np.ndindex(3, 4):
        expected = losses(weights, idx.numpy(), 3, 4, head) - whole
        np.testing.assert_allclose(changes[head].numpy(), expected, rtol=0, atol=1e-12)
        assert (abs(expected) > 1e-4).any()
    assert torch.equal(model(idx), logits_before)  # no hook is left


def test_a_head_whose_output_is_always_the_same_does_not_matter():
    model = small_model(vocab_size=257)
    attn, D = model.h[1].attn, 8  # head 2 of layer 1: its values are the bias alone
    with torch.no_grad():
        attn.c_attn.weight[2 * 32 + 2 * D : 2 * 32 + 3 * D] = 0
    text = torch.randint(257, (4, 12), generator=torch.Generator().manual_seed(1))
    columns = ablation(model, text, repeated_tokens(256, 16, seed=0))
    for name, values in columns.items():
        assert values.shape == (2, 4) and values[1, 2] == pytest.approx(0, abs=1e-6), name
        assert (abs(np.delete(values, 6)) > 1e-4).all(), name


def test_the_standard_error_is_over_sequences():
    model = small_model(vocab_size=257)
    repeated = repeated_tokens(256, 16, seed=0)
    columns = ablation(model, repeated, repeated)
    changes = loss_changes(model, repeated).double().numpy()  # (L, H, B)
    np.testing.assert_allclose(columns["ablation_repeated"], changes.mean(2), atol=1e-6)
    np.testing.assert_allclose(columns["ablation_repeated_stderr"], changes.std(2, ddof=1) / math.sqrt(8), atol=1e-6)
