"""The loss of the output projection, in chunks of tokens: it never holds the float32 logits of a whole batch.

Shapes: N tokens, C channels, V vocabulary, R tokens of a chunk.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

IGNORE = -100  # a target that is not scored
CHUNK = 1 << 27  # logits at a time: 0.54 GB in float32


def linear_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """The cross-entropy in nats of `hidden @ weight.T`, summed over targets other than IGNORE, in float32.

    hidden (N, C), weight (V, C), targets (N,). More than CHUNK logits are computed in chunks. A chunk's gradients are
    computed with its loss, so that no logits are kept or computed again for the backward pass. That gives first
    derivatives only.
    """
    rows = max(1, CHUNK // len(weight))
    if torch.is_grad_enabled() and len(hidden) > rows:
        return _ChunkedCrossEntropy.apply(hidden, weight, targets, rows)
    chunks = zip(hidden.split(rows), targets.split(rows), strict=True)
    return torch.stack([_cross_entropy(h, weight, t) for h, t in chunks]).sum()


def _cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    V = len(weight)
    if hidden.is_cuda:  # tensor cores need a vocabulary of a multiple of 64 to be fast
        weight = F.pad(weight, (0, 0, 0, -V % 64))
    logits = F.linear(hidden, weight)[:, :V]  # (R, V)
    dtype = torch.promote_types(logits.dtype, torch.float32)
    return F.cross_entropy(logits.to(dtype), targets, ignore_index=IGNORE, reduction="sum")


class _ChunkedCrossEntropy(torch.autograd.Function):
    """The loss of each chunk of R tokens together with the gradients of its logits, softmax minus one-hot targets."""

    @staticmethod
    def forward(ctx, hidden: Tensor, weight: Tensor, targets: Tensor, rows: int) -> Tensor:
        device, V = hidden.device.type, len(weight)
        autocast = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if autocast else weight.dtype
        exact = torch.promote_types(dtype, torch.float32)
        matrix = F.pad(weight, (0, 0, 0, -V % 64)).to(dtype)  # (V', C): zero rows, whose logits are left out below
        padded = torch.arange(len(matrix), device=hidden.device) >= V
        loss = hidden.new_zeros((), dtype=exact)
        hidden_grad = torch.empty_like(hidden)
        weight_grad = torch.zeros_like(matrix, dtype=exact)
        with torch.autocast(device, enabled=False):
            for start in range(0, len(hidden), rows):
                chunk = slice(start, start + rows)
                h, scored = hidden[chunk].to(dtype), targets[chunk] != IGNORE
                target = targets[chunk].clamp(min=0)[:, None]  # (R, 1)
                logits = (h @ matrix.t()).to(exact).masked_fill(padded, -torch.inf)  # (R, V')
                normalizer = logits.logsumexp(dim=1, keepdim=True)
                # Not in place: compiled by torch 2.11, an output that is changed in place has no gradient.
                loss = loss + ((normalizer - logits.gather(1, target)).squeeze(1) * scored).sum()
                logits = (logits - normalizer).exp()  # probabilities
                logits = logits.scatter_add(1, target, -torch.ones_like(normalizer)) * scored[:, None]
                grad = logits.to(dtype)
                hidden_grad[chunk] = (grad @ matrix).to(hidden.dtype)
                if ctx.needs_input_grad[1]:  # it is False where only adapters are trained
                    weight_grad += grad.t() @ h
        ctx.save_for_backward(hidden_grad, weight_grad[:V].to(weight.dtype))
        return loss

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        hidden_grad, weight_grad = ctx.saved_tensors
        return hidden_grad * grad, weight_grad * grad, None, None
