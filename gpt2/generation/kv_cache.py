"""Keys and values of earlier positions, so that the model computes only one position per new token.

Shapes: B rows, T tokens (time), H heads, D head size.
"""

import copy

import torch
from torch import Tensor

from gpt2.config.params import GPTConfig


class KVCache:
    """Preallocated keys and values of every layer, (B, H, length, D) each.

    Each row is one text, and its column p stores position p. A token sees the columns up to its own position, so later
    columns may contain anything, such as padding or the rest of a longer text.
    """

    def __init__(
        self,
        config: GPTConfig,
        batch_size: int,
        length: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ):
        shape = (batch_size, config.n_head, length, config.n_embd // config.n_head)
        self.layers = [
            (torch.zeros(shape, dtype=dtype, device=device), torch.zeros(shape, dtype=dtype, device=device))
            for _ in range(config.n_layer)
        ]

    @property
    def length(self) -> int:
        """The number of columns, one per position."""
        return self.layers[0][0].size(2)

    def view(self, rows: slice, columns: int) -> "KVCache":
        """Selects rows and the first columns; the view shares memory with the cache."""
        part = copy.copy(self)
        part.layers = [(k[rows, :, :columns], v[rows, :, :columns]) for k, v in self.layers]
        return part

    def repeated(self, times: int) -> "KVCache":
        """Returns a copy with each row repeated."""
        part = copy.copy(self)
        part.layers = [(k.repeat_interleave(times, dim=0), v.repeat_interleave(times, dim=0)) for k, v in self.layers]
        return part

    def update(self, layer: int, positions: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Writes keys and values (B, H, T, D) at positions (B, T); returns all columns, (B, H, length, D) each."""
        index = positions[:, None, :, None].expand_as(k)  # (B, H, T, D)
        for cached, new in zip(self.layers[layer], (k, v), strict=True):
            cached.scatter_(2, index, new.to(cached.dtype))
        return self.layers[layer]
