"""GPT-2, top to bottom: attention, MLP, block, model (Radford et al. 2019; layer order of OpenAI's release).

Parameters carry the names of the released checkpoint: wte wpe h.N.ln_1 h.N.attn.c_attn h.N.attn.c_proj h.N.ln_2
h.N.mlp.c_fc h.N.mlp.c_proj ln_f.

Shapes: B batch, T time (tokens), S positions attended to (T, or all columns of a cache), C channels (n_embd), H heads,
D head size (C / H), V vocabulary.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from gpt2.config.params import GPTConfig
from gpt2.model.loss import linear_cross_entropy

UpdateCache = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # k, v (B, H, T, D) -> k, v (B, H, S, D)


class Cache(Protocol):
    """The cache of keys and values that the model expects; `gpt2/generation/kv_cache.py` implements it."""

    length: int  # columns, S

    def update(self, layer: int, positions: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Stores keys and values (B, H, T, D) of positions (B, T); returns those of all columns, (B, H, S, D) each."""


class CausalSelfAttention(nn.Module):
    """Multi-head attention in which no position sees a later one (Vaswani et al. 2017, §3.2)."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.n_head = config.n_head
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd)  # query, key and value in one product
        self.c_proj = nn.Linear(config.n_embd, config.n_embd)
        self.attn_dropout = nn.Dropout(config.dropout)
        self.resid_dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,
        update_cache: UpdateCache | None = None,
        mask: Tensor | None = None,
        output_attentions: list[Tensor] | None = None,
    ) -> Tensor:
        """Maps (B, T, C) to (B, T, C).

        `update_cache` stores the new keys and values and returns those of all cached columns. `mask` is boolean,
        broadcastable to (B, H, T, S), and true where a position may attend; None means causal, without a cache.
        The attention weights (B, H, T, S) are appended to the list `output_attentions`.
        """
        B, T, C = x.shape
        q, k, v = (
            part.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)  # (B, H, T, D)
            for part in self.c_attn(x).split(C, dim=2)
        )
        if update_cache is not None:
            k, v = update_cache(k, v)  # (B, H, S, D)
        if output_attentions is None:
            p = self.attn_dropout.p if self.training else 0.0
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=p, is_causal=mask is None)
        else:  # the same computation, keeping the weights
            scores = q @ k.transpose(2, 3) / math.sqrt(q.size(3))  # (B, H, T, S)
            allowed = causal_mask(T, k.size(2), x.device) if mask is None else mask
            weights = scores.masked_fill(~allowed, -math.inf).softmax(dim=3)
            output_attentions.append(weights)
            y = self.attn_dropout(weights) @ v  # (B, H, T, D)
        y = y.transpose(1, 2).reshape(B, T, C)
        return self.resid_dropout(self.c_proj(y))


class MLP(nn.Module):
    """Two layers, by default four times as wide inside, with the tanh form of GELU (Hendrycks and Gimpel 2016)."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        n_inner = config.n_inner or 4 * config.n_embd
        self.c_fc = nn.Linear(config.n_embd, n_inner)
        self.c_proj = nn.Linear(n_inner, config.n_embd)
        self.resid_dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, T, C) to (B, T, C), each position independently."""
        hidden = F.gelu(self.c_fc(x), approximate="tanh")  # (B, T, n_inner)
        return self.resid_dropout(self.c_proj(hidden))


class Block(nn.Module):
    """Attention, then MLP; each reads the normalized residual stream and adds its output to it (GPT-2 §2.3)."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd)
        self.attn = CausalSelfAttention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd)
        self.mlp = MLP(config)

    def forward(
        self,
        x: Tensor,
        update_cache: UpdateCache | None = None,
        mask: Tensor | None = None,
        output_attentions: list[Tensor] | None = None,
    ) -> Tensor:
        """Maps (B, T, C) to (B, T, C); the arguments are those of attention."""
        x = x + self.attn(self.ln_1(x), update_cache, mask, output_attentions)
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    """The language model."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.config = config
        self.recompute = False  # whether the backward pass computes a block's activations again instead of keeping them
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)  # its weight is the output projection's, too
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.drop = nn.Dropout(config.dropout)
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd)
        self._initialize()

    @torch.no_grad()
    def _initialize(self) -> None:
        """GPT-2's initialization: normal 0.02 (positions 0.01), zero biases, and each of the 2 * n_layer projections
        that write to the residual stream scaled by 1 / sqrt(2 * n_layer) (GPT-2 §2.3 and OpenAI's code)."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        for block in self.h:
            for projection in (block.attn.c_proj, block.mlp.c_proj):
                projection.weight /= math.sqrt(2 * self.config.n_layer)
        nn.init.normal_(self.wte.weight, std=0.02)
        nn.init.normal_(self.wpe.weight, std=0.01)

    def forward(self, idx: Tensor, targets: Tensor | None = None) -> Tensor:
        """Maps token ids (B, T) to logits (B, T, V), or, with targets (B, T), to the summed cross-entropy in nats.

        Positions with the target IGNORE do not count. Sums, unlike means, add up to the same number
        however a batch is split.
        """
        hidden = self.hidden(idx)  # (B, T, C)
        if targets is None:
            return self.logits(hidden)
        return linear_cross_entropy(hidden.flatten(0, 1), self.wte.weight, targets.flatten())

    def hidden(
        self,
        idx: Tensor,
        cache: Cache | None = None,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
        output_attentions: list[Tensor] | None = None,
    ) -> Tensor:
        """Maps token ids (B, T) to the residual stream after the last layer norm, (B, T, C).

        `positions` (T,) or (B, T) and the boolean `mask`, broadcastable to (B, H, T, S), replace consecutive positions
        and causal attention. With a `cache`, positions (B, T) are the tokens' columns in it, and each token attends to
        the columns up to its own. The attention weights of each layer are appended to the list `output_attentions`.
        """
        T = idx.size(1)
        assert self.config.block_size >= T or positions is not None, "more tokens than block_size"
        if positions is None:
            positions = torch.arange(T, device=idx.device)
        if cache is not None:
            assert mask is None and positions.dim() == 2, "a cache needs positions (B, T) and makes its own mask"
            mask = (torch.arange(cache.length, device=idx.device) <= positions[..., None])[:, None]  # (B, 1, T, S)
        x = self.drop(self.wte(idx) + self.wpe(positions))  # (B, T, C)
        for layer, block in enumerate(self.h):
            update_cache = None if cache is None else partial(cache.update, layer, positions)
            if self.recompute and torch.is_grad_enabled():
                x = checkpoint(block, x, update_cache, mask, output_attentions, use_reentrant=False)
            else:
                x = block(x, update_cache, mask, output_attentions)
        return self.ln_f(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """Maps (..., C) to unnormalized log-probabilities (..., V) with the weights of the token embedding."""
        return F.linear(hidden, self.wte.weight)

    def attentions(self, idx: Tensor) -> list[Tensor]:
        """The attention weights of every layer for token ids (B, T): n_layer tensors (B, H, T, T); rows sum to 1."""
        weights: list[Tensor] = []
        self.hidden(idx, output_attentions=weights)
        return weights


def initial_model(config: GPTConfig, seed: int) -> GPT:
    """An untrained GPT-2 that depends only on `config` and `seed`. Leaves torch's global generator unchanged."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GPT(config)


def causal_mask(T: int, S: int, device: torch.device | str) -> Tensor:
    """(T, S), true where the last T of S positions may attend: each to itself and to earlier positions."""
    return torch.ones(T, S, dtype=torch.bool, device=device).tril(diagonal=S - T)
