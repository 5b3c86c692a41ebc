"""The loss in chunks: the numbers of the plain loss, without its memory."""

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F

from gpt2.model import loss
from gpt2.model.loss import IGNORE, linear_cross_entropy
from gpt2.runtime.precision import autocast
from tests.small import ALONE, small_model

N, C, V = 300, 32, 101


def results(dtype=torch.float64, precision="float32", function=linear_cross_entropy) -> list[torch.Tensor]:
    """The loss, and its gradients for hidden states and weights; a third of the targets do not count."""
    torch.manual_seed(3)
    hidden = torch.randn(N, C, dtype=dtype).requires_grad_()
    weight = (0.3 * torch.randn(V, C, dtype=dtype)).requires_grad_()
    targets = torch.where(torch.rand(N) < 0.3, IGNORE, torch.randint(V, (N,)))
    with autocast(precision, ALONE.device):
        total = function(hidden, weight, targets)
    (total / 7).backward()
    return [total.detach(), hidden.grad, weight.grad]


def plain(hidden, weight, targets) -> torch.Tensor:
    logits = F.linear(hidden, weight)
    exact = logits if logits.dtype == torch.float64 else logits.float()
    return F.cross_entropy(exact, targets, ignore_index=IGNORE, reduction="sum")


@pytest.mark.parametrize("rows", [1, 7, 299, 300])
def test_chunks_give_the_loss_and_gradients_of_the_plain_loss(monkeypatch, rows):
    monkeypatch.setattr(loss, "CHUNK", rows * V)
    for ours, expected in zip(results(), results(function=plain), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_under_autocast_chunks_round_no_more_than_the_plain_loss(monkeypatch, precision):
    """The error is that of the plain loss, from float64: the same products are rounded to 16 bits."""
    monkeypatch.setattr(loss, "CHUNK", 64 * V)
    exact = results(function=plain)
    rounded = results(torch.float32, precision, plain)
    chunked = results(torch.float32, precision)
    for ours, theirs, expected in zip(chunked, rounded, exact, strict=True):
        error, their_error = ((found - expected).norm() / expected.norm() for found in (ours, theirs))
        assert error < max(1.5 * their_error, 1e-5)


def test_chunks_can_be_compiled(monkeypatch):
    monkeypatch.setattr(loss, "CHUNK", 64 * V)
    compiled = torch.compile(linear_cross_entropy, backend="aot_eager", fullgraph=True)
    for ours, expected in zip(results(function=compiled), results(), strict=True):
        torch.testing.assert_close(ours, expected)


class LargestTensor(torch.utils._python_dispatch.TorchDispatchMode):
    """Records the size of the largest tensor that is made."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        made = [leaf.numel() for leaf in torch.utils._pytree.tree_leaves(out) if isinstance(leaf, torch.Tensor)]
        self.elements = max(self.elements, *made, 0)
        return out


def test_no_tensor_holds_the_logits_of_the_whole_batch(monkeypatch):
    monkeypatch.setattr(loss, "CHUNK", 64 * V)
    with LargestTensor() as largest:
        results()
    assert largest.elements == N * C  # a chunk has 64 * 128 logits, its vocabulary padded to a multiple of 64


def kept(work: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, int]:
    """What `work` returns, and the elements that it keeps for the backward pass."""
    sizes = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        return work(), sum(sizes)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_recomputing_activations_gives_the_same_gradients(dropout):
    idx = torch.randint(300, (2, 17), generator=torch.Generator().manual_seed(1))
    gradients = []
    for recompute in (False, True):
        model = small_model(dropout=dropout).train()
        model.recompute = recompute
        torch.manual_seed(9)
        total, elements = kept(lambda model=model: model(idx[:, :-1], idx[:, 1:]))
        total.backward()
        gradients.append((elements, [parameter.grad for parameter in model.parameters()]))
    (whole, expected), (less, found) = gradients
    assert less < whole / 2
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))
