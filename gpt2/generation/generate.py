"""Text from a model, token by token, on a cache of keys and values.

Shapes: P prompts, B texts (P times the samples of each), T time (tokens), C channels, V vocabulary.
"""

from collections.abc import Collection, Iterator
from itertools import takewhile

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from gpt2.generation.kv_cache import KVCache
from gpt2.generation.sampling import Sampling, choose
from gpt2.model.gpt import GPT
from gpt2.tokenizer.tokenizer import Tokenizer

COLUMNS = 256  # of the cache that a compiled step looks at, or a multiple: the first two numbers are compiled apart


def encode_prompt(tokenizer: Tokenizer, text: str) -> list[int]:
    """The token ids of a prompt. An empty one is `<|endoftext|>`, after which a document begins."""
    return tokenizer.encode_prompt(text) or [tokenizer.eot]


def complete(
    model: GPT, tokenizer: Tokenizer, prompt: str, new_tokens: int, sampling: Sampling, *, seed: int = 0
) -> str:
    """The text with which `generate` continues a prompt, up to `<|endoftext|>`."""
    ids = encode_prompt(tokenizer, prompt)
    (tokens,) = continuations(model, [ids], new_tokens, sampling, seed=seed, stop=[tokenizer.eot])
    return tokenizer.decode(tokens)


def continuations(
    model: GPT,
    prompts: list[list[int]],
    new_tokens: int,
    sampling: Sampling,
    *,
    seed: int = 0,
    stop: Collection[int] = (),
) -> list[list[int]]:
    """The tokens of `generate` for each prompt, up to the first that is in `stop`, which is left out."""
    steps = generate(model, prompts, new_tokens, sampling, seed=seed, stop=stop)
    return [list(takewhile(lambda token: token not in stop, tokens)) for tokens in zip(*steps, strict=True)]


@torch.inference_mode()
def generate(
    model: GPT,
    prompts: list[list[int]],
    new_tokens: int,
    sampling: Sampling,
    *,
    seed: int = 0,
    samples: int = 1,
    stop: Collection[int] = (),
    compiled: bool = False,
) -> Iterator[list[int]]:
    """Continues each prompt by at most `new_tokens` tokens, in `samples` ways; yields the next token of every text as
    it is chosen, the samples of the first prompt first.

    Sample i draws its random numbers from seed + i: the tokens of a text depend on its prompt and its seed, whatever
    else is in the batch, but for rounding. A text that has yielded a token of `stop` yields it from then on; when all
    have, the iterator ends. A prompt goes through the model once, however many samples.

    A text may have any length. When its `block_size` positions are filled, the later half of its tokens is kept:
    positions are learned, so these move to the front and go through the model again. Of a prompt longer than
    `block_size` the last `block_size` tokens are seen.

    `compiled` has torch.compile make one step of it, which takes half a minute once, a few seconds when that is in the
    compiler's cache, and pays off for long or many texts; `runtime.device.can_compile` says whether it can.
    """
    texts = _Texts(model, prompts, samples, new_tokens, compiled)
    device, B = texts.logits.device, len(texts.ids)
    generators = [torch.Generator(device).manual_seed(seed + row % samples) for row in range(B)]
    seen = torch.zeros_like(texts.logits, dtype=torch.bool)  # (B, V)
    for row, ids in zip(seen, texts.ids, strict=True):
        row[ids] = True
    stops = torch.tensor(list(stop), dtype=torch.long, device=device)
    tokens, ended = stops.new_zeros(B), torch.zeros(B, dtype=torch.bool, device=device)
    for remaining in reversed(range(new_tokens)):
        tokens = torch.where(ended, tokens, choose(texts.logits, sampling, generators, seen))  # (B,)
        ended = torch.isin(tokens, stops)
        yield tokens.tolist()
        if not remaining or ended.all():
            return
        seen.scatter_(1, tokens[:, None], True)
        texts.append(tokens)


class _Texts:
    """Texts that grow together: their tokens, the cache of what the model has seen, the logits of what comes next."""

    def __init__(self, model: GPT, prompts: list[list[int]], samples: int, new_tokens: int, compiled: bool):
        assert all(prompts) and not model.training
        self.model, self.block_size = model, model.config.block_size
        self.step, self.unit = (torch.compile(_step), COLUMNS) if compiled else (_step, 1)
        prompts = [ids[-self.block_size :] for ids in prompts]
        self.ids = [list(ids) for ids in prompts for _ in range(samples)]  # B texts
        self.lengths = [len(ids) for ids in self.ids]  # positions filled
        weight = model.wpe.weight
        cache = KVCache(
            model.config, len(prompts), self._columns(max(self.lengths) + new_tokens), weight.dtype, weight.device
        )
        self.logits = _prefill(model, prompts, cache).repeat_interleave(samples, dim=0)  # (B, V)
        self.cache = cache.repeated(samples) if samples > 1 else cache

    def append(self, tokens: Tensor) -> None:
        """Adds a token (B,) to each text."""
        last = self.block_size - 1  # where a text that is full has its token for a moment, before it is moved up
        positions = torch.tensor(self.lengths, device=tokens.device).clamp(max=last)
        cache = self.cache.view(slice(None), self._columns(max(self.lengths) + 1))
        self.logits = self.step(self.model, tokens, positions, cache)
        for row, token in enumerate(tokens.tolist()):
            self.ids[row].append(token)
            self.lengths[row] += 1
            if self.lengths[row] > self.block_size:
                window = self.ids[row][-max(1, self.block_size // 2) :]
                cache = self.cache.view(slice(row, row + 1), self.cache.length)
                self.logits[row] = _prefill(self.model, [window], cache)[0]
                self.lengths[row] = len(window)

    def _columns(self, positions: int) -> int:
        """How many columns of the cache to look at for so many positions."""
        return min(self.block_size, -(-positions // self.unit) * self.unit)


def _prefill(model: GPT, prompts: list[list[int]], cache: KVCache) -> Tensor:
    """Takes prompts of any lengths into an empty cache; the logits after each, (P, V).

    They are padded on the right, which no token sees, and which those that are generated overwrite.
    """
    device = model.wpe.weight.device
    last = torch.tensor([len(ids) - 1 for ids in prompts], device=device)  # (P,)
    padded = pad_sequence([torch.tensor(ids, device=device) for ids in prompts], batch_first=True)  # (P, T)
    positions = torch.arange(padded.size(1), device=device).expand_as(padded)
    hidden = model.hidden(padded, cache.view(slice(None), padded.size(1)), positions)  # (P, T, C)
    return model.logits(hidden[torch.arange(len(prompts), device=device), last])


def _step(model: GPT, tokens: Tensor, positions: Tensor, cache: KVCache) -> Tensor:
    """The logits (B, V) after one more token (B,) of each row, at its position (B,)."""
    return model.logits(model.hidden(tokens[:, None], cache, positions[:, None])[:, 0])
