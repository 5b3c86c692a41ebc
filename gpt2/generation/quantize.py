"""A model made ready to generate: weights in float32, bfloat16 or int8, read at the speed of memory.

One text at a time, each new token has every weight read once and used once. That is what its speed hangs on; so halving
the weights' bytes, twice, nearly halves the time, twice.

Shapes: N rows of inputs, I inputs and O outputs of a product, V vocabulary, C channels.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gpt2.model.gpt import GPT
from gpt2.runtime.device import autocast_dtype

Precision = Literal["float32", "bfloat16", "int8"]

FEW = 16  # rows, up to which the kernel for int8 weights is faster than turning the weights into floats


@torch.no_grad()
def prepare(model: GPT, precision: Precision, *, compiled: bool = False) -> None:
    """Changes a model in place to one that only infers: its products and token embedding, and all else, in a precision.

    `compiled`: as it will be given to `generate`. Without it float32 matrices are kept by columns, which the CPU's
    product with one row reads a quarter faster than rows.

    int8 is of weights alone (what they are multiplied with stays bfloat16, or float32 where the processor has no
    other): each row of a matrix is scaled so that its largest weight is 127, and rounded. Biases, norms and positions
    are kept as they are. Raises InputError for bfloat16 on a processor without its arithmetic.
    """
    device = model.wte.weight.device
    int8, by_columns = precision == "int8", precision == "float32" and device.type == "cpu" and not compiled
    dtype = autocast_dtype("auto" if int8 else precision, device) or torch.float32
    model.to(dtype).requires_grad_(False)
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear):
            model.set_submodule(name, WeightOnly(*_kept(module.weight, int8, by_columns), module.bias))
    model.wte = TokenTable(*_kept(model.wte.weight, int8, by_columns))


def _kept(weight: Tensor, int8: bool, by_columns: bool) -> tuple[Tensor, Tensor | None]:
    """A matrix as it is kept, and the scale of its rows where it is int8."""
    if int8:
        return quantized(weight)
    return weight.detach().t().contiguous().t() if by_columns else weight, None


class WeightOnly(nn.Module):
    """A linear layer whose weights may be int8."""

    def __init__(self, weight: Tensor, scale: Tensor | None, bias: Tensor):
        super().__init__()
        self.weight, self.scale, self.bias = weight, scale, bias

    def forward(self, x: Tensor) -> Tensor:
        """Maps (..., I) to (..., O)."""
        return product(x, self.weight, self.scale, self.bias)


class TokenTable(nn.Module):
    """The token embedding, which is the output projection too (TokenEmbedding); its weights may be int8."""

    def __init__(self, weight: Tensor, scale: Tensor | None):
        super().__init__()
        self.weight, self.scale = weight, scale

    def forward(self, idx: Tensor) -> Tensor:
        """Maps token ids (...) to (..., C)."""
        rows = F.embedding(idx, self.weight)
        return rows if self.scale is None else rows * self.scale[idx, None]

    def logits(self, hidden: Tensor, aligned: bool = False) -> Tensor:
        """Maps (..., C) to (..., V); nothing is gained by aligning it here."""
        return product(hidden, self.weight, self.scale)


def quantized(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A matrix (O, I) as int8, and the scale of each row (O,), in the matrix's own type, that gives it back."""
    scale = (weight.float().abs().amax(dim=1) / 127).clamp(min=1e-30).to(weight.dtype)
    return (weight.float() / scale[:, None].float()).round().clamp(-127, 127).to(torch.int8), scale


def product(x: Tensor, weight: Tensor, scale: Tensor | None, bias: Tensor | None = None) -> Tensor:
    """Maps (..., I) to (..., O) by a matrix (O, I), whose rows are multiplied by `scale` (O,) where it is int8."""
    if x.is_cpu and torch.compiler.is_compiling() and x.numel() == x.size(-1):
        return _row_product(x, weight, scale, bias)
    if scale is None:
        return F.linear(x, weight, bias)
    rows = x.flatten(0, -2)  # (N, I)
    if not x.is_cpu or len(rows) > FEW:
        return F.linear(x, weight.to(x.dtype) * scale[:, None], bias)
    y = torch._weight_int8pack_mm(rows, weight, scale).view(*x.shape[:-1], -1)
    return y if bias is None else y + bias


def _row_product(x: Tensor, weight: Tensor, scale: Tensor | None, bias: Tensor | None) -> Tensor:
    """The same for one row, as a sum that the compiler makes one loop of: it reads the weights as fast as memory gives
    them, twice as fast as the CPU's matrix products do, converts them on the way, and adds up in float32."""
    row = x.float().flatten()  # (I,)
    row = row.as_strided(row.size(), row.stride())  # has the compiler write it out, not compute it anew for each output
    y = (weight.float() * row).sum(dim=1)  # (O,)
    y = y if scale is None else y * scale.float()
    y = y if bias is None else y + bias.float()
    return y.to(x.dtype).view(*x.shape[:-1], -1)
