"""Muon (Jordan et al. 2024): momentum whose singular values are all set to about 1 before each step.

Shapes: N matrices, R rows, C columns.
"""

import math

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the odd polynomial that `orthogonalize` iterates
ITERATIONS = 5


class Muon:
    """Steps for matrices, with Nesterov momentum and decoupled weight decay.

    Steps are scaled to the size of AdamW's (Liu et al. 2025, §2.2), so that the same learning rate and weight decay
    suit both. All matrices of one shape are orthogonalized together: in float32 on a CPU, where small products in
    bfloat16 are slower, and in bfloat16 elsewhere.
    """

    def __init__(self, weights: dict[nn.Parameter, int], lr: float, weight_decay: float):
        """`weights`: each with the number of matrices that are stacked in it, which are orthogonalized apart."""
        self.weights, self.weight_decay = weights, weight_decay
        self.group = {"params": list(weights), "lr": lr}
        self.momenta = [torch.zeros_like(weight) for weight in weights]

    @torch.no_grad()
    def step(self) -> None:
        """Updates the weights from their gradients."""
        lr = self.group["lr"]
        same: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = {}  # by shape (R, C): matrices and their updates
        for (weight, n), momentum in zip(self.weights.items(), self.momenta, strict=True):
            momentum.lerp_(weight.grad, 1 - MOMENTUM)
            update = weight.grad.lerp(momentum, MOMENTUM)
            for matrix, part in zip(weight.chunk(n), update.chunk(n), strict=True):
                same.setdefault(tuple(matrix.shape), []).append((matrix, part))
        for shape, pairs in same.items():
            updates = orthogonalize(torch.stack([part for _, part in pairs]))  # (N, R, C)
            for (matrix, _), update in zip(pairs, updates, strict=True):
                matrix.mul_(1 - lr * self.weight_decay).sub_(update, alpha=lr * 0.2 * math.sqrt(max(shape)))

    def state_dict(self) -> dict:
        """The momentum of each weight."""
        return {"momenta": self.momenta}

    def load_state_dict(self, state: dict) -> None:
        """Restores what `state_dict` returned."""
        for momentum, saved in zip(self.momenta, state["momenta"], strict=True):
            momentum.copy_(saved)


def orthogonalize(matrices: Tensor) -> Tensor:
    """Maps each matrix U S V' of (N, R, C) to about U V', whose singular values are between 0.7 and 1.2.

    A few Newton-Schulz iterations, which need only products (Bernstein and Newhouse 2024), with the coefficients of
    Jordan et al., which lift small singular values fastest. Those that are tiny beside the matrix's norm stay smaller.
    """
    a, b, c = COEFFICIENTS
    tall = matrices.size(1) > matrices.size(2)
    x = matrices.mT if tall else matrices  # so that x x' is the smaller of the two products
    x = x.to(torch.float32 if x.device.type == "cpu" else torch.bfloat16)
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=1e-7)  # no singular value above 1
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype)
