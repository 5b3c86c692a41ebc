"""GPT-2, top to bottom: attention, MLP, block, model (Radford et al. 2019; layer order of OpenAI's release).

Parameters carry the names of the released checkpoint: wte wpe h.N.ln_1 h.N.attn.c_attn h.N.attn.c_proj h.N.ln_2
h.N.mlp.c_fc h.N.mlp.c_proj ln_f.

Shapes: B batch, T time (tokens), S positions looked at (T, or all columns of a cache), C channels (n_embd), H heads,
D head size (C / H), V vocabulary.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gpt2.config.params import GPTConfig

IGNORE = -100  # a target that is not scored


Remember = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class Cache(Protocol):
    """What the model asks of a cache of keys and values; `gpt2/generation/kv_cache.py` has one."""

    length: int  # its columns, S

    def update(self, layer: int, positions: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Takes keys and values (B, H, T, D) of positions (B, T); returns all that it has, (B, H, S, D) each."""


class CausalSelfAttention(nn.Module):
    """Multi-head attention in which no position sees a later one (Vaswani et al. 2017, §3.2)."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.n_head = config.n_head
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd)  # query, key and value in one product
        self.c_proj = nn.Linear(config.n_embd, config.n_embd)
        self.attn_dropout = Dropout(config.dropout, config.block_size, config.block_size)
        self.resid_dropout = Dropout(config.dropout, config.n_embd)

    def forward(
        self, x: Tensor, remember: Remember | None, mask: Tensor | None, record: list[Tensor] | None = None
    ) -> Tensor:
        """Maps (B, T, C) to (B, T, C).

        `remember` takes keys and values to a cache, and gives back those of all its columns. `mask` is boolean,
        broadcastable to (B, H, T, S), true where a position may look; None means causal, without a cache. With
        `record`, the attention weights (B, H, T, S) are computed explicitly and appended to it.
        """
        B, T, C = x.shape
        q, k, v = (
            part.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)  # (B, H, T, D)
            for part in self.c_attn(x).split(C, dim=2)
        )
        if remember is not None:
            k, v = remember(k, v)  # (B, H, S, D)
        single = T == 1 and x.is_cpu  # over one query the CPU's SDPA takes up to five times as long as two products
        if record is None and not self.attn_dropout.active and not single:
            if mask is None and x.is_cpu and torch.compiler.is_compiling():
                y = BlockAttention.apply(q, k, v)  # (B, H, T, D)
            else:
                y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
        else:
            weights = self._weights(q, k, mask)  # (B, H, T, S)
            if record is not None:
                record.append(weights)
            y = self.attn_dropout(weights) @ v  # (B, H, T, D)
        y = y.transpose(1, 2).reshape(B, T, C)
        return self.resid_dropout(self.c_proj(y))

    @staticmethod
    def _weights(q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor:
        """softmax(q k' / sqrt(D)) over the positions allowed: (B, H, T, S)."""
        if mask is None:
            mask = causal_mask(q.size(2), k.size(2), q.device)
        scores = q @ k.transpose(2, 3) / math.sqrt(q.size(3))  # (B, H, T, S)
        return scores.masked_fill(~mask, -math.inf).softmax(dim=3)


class MLP(nn.Module):
    """Two layers, four times as wide inside, with the tanh form of GELU (Hendrycks and Gimpel 2016)."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd)
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd)
        self.resid_dropout = Dropout(config.dropout, config.n_embd)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, T, C) to (B, T, C), each position by itself."""
        return self.resid_dropout(self.c_proj(F.gelu(self.c_fc(x), approximate="tanh")))


class Block(nn.Module):
    """Attention, then MLP, each normalized before and added to the residual stream after (GPT-2 §2.3)."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd)
        self.attn = CausalSelfAttention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd)
        self.mlp = MLP(config)

    def forward(
        self, x: Tensor, remember: Remember | None, mask: Tensor | None, record: list[Tensor] | None = None
    ) -> Tensor:
        """Maps (B, T, C) to (B, T, C); the arguments are those of attention."""
        x = x + self.attn(self.ln_1(x), remember, mask, record)
        return x + self.mlp(self.ln_2(x))


class TokenEmbedding(nn.Embedding):
    """What tokens begin as, which is also what the last hidden states are compared with (tied weights)."""

    def logits(self, hidden: Tensor, aligned: bool = False) -> Tensor:
        """Maps (..., C) to unnormalized log-probabilities (..., V).

        `aligned` pads the vocabulary to a multiple of 64 while it is multiplied, without which tensor cores are slow.
        """
        V = self.num_embeddings
        weight = F.pad(self.weight, (0, 0, 0, -V % 64)) if aligned else self.weight
        return F.linear(hidden, weight)[..., :V]


class GPT(nn.Module):
    """The language model. The output projection is the token embedding, transposed."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.config = config
        self.wte = TokenEmbedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.drop = Dropout(config.dropout, config.n_embd)
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

        Positions whose target is IGNORE are left out of the sum. The sum, not the mean, lets a batch be split in any
        way and still add up to the same number.
        """
        hidden = self.hidden(idx)
        if targets is None:
            return self.logits(hidden)
        return summed_cross_entropy(self.logits(hidden, aligned=hidden.is_cuda), targets)

    def hidden(
        self,
        idx: Tensor,
        cache: Cache | None = None,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
        record: list[Tensor] | None = None,
    ) -> Tensor:
        """Maps token ids (B, T) to the residual stream after the last layer norm, (B, T, C).

        `positions` (T,) or (B, T) and the boolean `mask`, broadcastable to (B, H, T, S), replace consecutive positions
        and causal attention. With a `cache`, positions (B, T) say where in it the tokens belong, and each sees what
        stands there up to itself. `record` collects attention weights.
        """
        T = idx.size(1)
        assert self.config.block_size >= T or positions is not None, "more tokens than block_size"
        if positions is None:
            positions = torch.arange(T, device=idx.device)
        if cache is not None:
            assert mask is None and positions.dim() == 2, "a cache needs positions (B, T), which say who sees whom"
            mask = (torch.arange(cache.length, device=idx.device) <= positions[..., None])[:, None]  # (B, 1, T, S)
        x = self.drop(self.wte(idx) + self.wpe(positions))  # (B, T, C)
        for i, block in enumerate(self.h):
            x = block(x, partial(cache.update, i, positions) if cache else None, mask, record)
        return self.ln_f(x)

    def logits(self, hidden: Tensor, aligned: bool = False) -> Tensor:
        """Maps (..., C) to unnormalized log-probabilities (..., V): see TokenEmbedding."""
        return self.wte.logits(hidden, aligned)

    def attentions(self, idx: Tensor) -> list[Tensor]:
        """The attention weights of every layer for token ids (B, T): n_layer tensors (B, H, T, T); rows sum to 1."""
        record: list[Tensor] = []
        self.hidden(idx, record=record)
        return record


def initial_model(config: GPTConfig, seed: int) -> GPT:
    """A GPT-2 before any training: the same for the same seed. Torch's own random numbers go on undisturbed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GPT(config)


def summed_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy in nats, summed over targets other than IGNORE: logits (..., K), targets (...), in float32."""
    return F.cross_entropy(logits.flatten(0, -2).float(), targets.flatten(), ignore_index=IGNORE, reduction="sum")


def causal_mask(T: int, S: int, device: torch.device | str) -> Tensor:
    """(T, S), true where one of the last T of S positions may look: at itself and before."""
    return torch.ones(T, S, dtype=torch.bool, device=device).tril(diagonal=S - T)


# --- attention on the CPU, compiled -----------------------------------------------------------------------------------


class BlockAttention(torch.autograd.Function):
    """Causal attention by blocks of queries, for torch.compile to fuse on the CPU.

    As in FlashAttention-2 (Dao 2023, §2.3 and §3.1) the backward pass computes the weights anew, from the logarithm of
    their sums, and keys after the last query of a block are never looked at. Scores and sums are float32, the other
    products of the inputs' type. Compiled it takes little more than half the time of the CPU's SDPA.
    """

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Maps (B, H, T, D) each to (B, H, T, D)."""
        outputs, log_sums = [], []
        for start, end in blocks(q.size(2), 4):
            scores = BlockAttention.scores(q[:, :, start:end], k[:, :, :end])  # (B, H, block, end)
            largest = scores.amax(dim=3, keepdim=True)
            weights = (scores - largest).exp()
            total = weights.sum(dim=3, keepdim=True)  # (B, H, block, 1)
            outputs.append(((weights.to(v.dtype) @ v[:, :, :end]).float() / total).to(v.dtype))
            log_sums.append(largest + total.log())
        y, log_sums = torch.cat(outputs, dim=2), torch.cat(log_sums, dim=2)
        ctx.save_for_backward(q, k, v, y, log_sums)
        return y

    @staticmethod
    def backward(ctx, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients of q, k and v, (B, H, T, D) each."""
        q, k, v, y, log_sums = ctx.saved_tensors
        inner = (dy.float() * y.float()).sum(dim=3, keepdim=True)  # (B, H, T, 1)
        dq, dk, dv = [], torch.zeros_like(k, dtype=torch.float32), torch.zeros_like(v, dtype=torch.float32)
        for start, end in blocks(q.size(2), 2):
            own = slice(start, end)
            weights = (BlockAttention.scores(q[:, :, own], k[:, :, :end]) - log_sums[:, :, own]).exp()
            dweights = (dy[:, :, own] @ v[:, :, :end].transpose(2, 3)).float()  # (B, H, block, end)
            dscores = (weights * (dweights - inner[:, :, own]) / math.sqrt(q.size(3))).to(q.dtype)
            dq.append(dscores @ k[:, :, :end])
            dk[:, :, :end] += dscores.transpose(2, 3) @ q[:, :, own]
            dv[:, :, :end] += weights.to(dy.dtype).transpose(2, 3) @ dy[:, :, own]
        return torch.cat(dq, dim=2), dk.to(k.dtype), dv.to(v.dtype)

    @staticmethod
    def scores(q: Tensor, k: Tensor) -> Tensor:
        """q k' / sqrt(D) in float32, -inf where a key comes after its query: the T queries are the last of S keys'."""
        with torch.autocast(q.device.type, enabled=False):  # which would compute and keep them in bfloat16
            scores = q.float() @ k.float().transpose(2, 3) / math.sqrt(q.size(3))  # (B, H, T, S)
        return scores.masked_fill(~causal_mask(q.size(2), k.size(2), q.device), -math.inf)


def blocks(length: int, n: int) -> list[tuple[int, int]]:
    """Start and end of at most `n` equal blocks that cover `length`; the last may be shorter."""
    size = -(-length // n)
    return [(start, min(start + size, length)) for start in range(0, length, size)]


# --- dropout -------------------------------------------------------------------------------------------------------


class Dropout(nn.Module):
    """Zeroes each number with probability `p` and scales up the others by 1 / (1 - p) (Srivastava et al. 2014).

    Unlike torch's it decides from two random words a sample, its seeds, and the number's place in the sample. So the
    mask is the same whatever else is in the batch, however far the batch is padded, on every device, compiled or not.
    """

    def __init__(self, p: float, *widths: int):
        """`widths`: the sizes, at most, of the axes after a sample's first; with them places are numbered."""
        super().__init__()
        self.p, self.widths = p, widths
        self.seeds: Tensor | None = None  # (B, 2) int64 below 2^32, while seeded_dropout sets them

    @property
    def active(self) -> bool:
        """Whether `forward` does anything."""
        return self.training and self.p > 0.0

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, ...) to (B, ...). Without seeds of its own it draws some from torch's generator."""
        if not self.active:
            return x
        seeds = torch.randint(2**32, (x.size(0), 2), device=x.device) if self.seeds is None else self.seeds
        assert seeds.size(0) == x.size(0), f"seeds of {seeds.size(0)} samples for a batch of {x.size(0)}"
        place = torch.arange(x.size(1), device=x.device)
        for width, size in zip(self.widths, x.shape[2:], strict=True):
            place = place.unsqueeze(-1) * width + torch.arange(size, device=x.device)  # a sample's shape
        first, second = seeds.view(-1, 2, *[1] * place.dim()).unbind(1)  # (B, 1, ...)
        dropped = scattered(place, first, second) < int(self.p * 2**32)  # (B, ...)
        return x.masked_fill(dropped, 0.0) / (1.0 - self.p)


def scattered(place: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Maps places, keyed with two words, one to one to numbers below 2^32 that look random: all int64, broadcast.

    A counter-based generator (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") out of three rounds
    of T. Mueller's integer hash. Words of 32 bits in int64, because there no product overflows, which is undefined in
    the C++ that torch.compile writes.
    """
    for word in (first, second, first):
        place = place ^ word
        place *= 0x45D9F3B  # odd, and so invertible modulo 2^32
        place &= 2**32 - 1
        place ^= place >> 16
    return place
