"""Generates text token by token, with a cache of keys and values.

Shapes: P prompts, B texts (P times the number of samples), T time (tokens), C channels, V vocabulary.
"""

from collections.abc import Collection, Iterator
from itertools import takewhile

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from gpt2.generation.kv_cache import KVCache
from gpt2.generation.sampling import Sampling, choose
from gpt2.generation.step import Step
from gpt2.model.gpt import GPT
from gpt2.tokenizer.tokenizer import Tokenizer

COLUMNS = 32  # a step reads a multiple of this many columns of the cache
GRAPH_COLUMNS = 256  # the same on a GPU, where each number of columns has a CUDA graph of its own


def encode_prompt(tokenizer: Tokenizer, text: str) -> list[int]:
    """Encodes a prompt. An empty prompt becomes `<|endoftext|>`, which starts a new document."""
    return tokenizer.encode_prompt(text) or [tokenizer.eot]


def complete(
    model: GPT, tokenizer: Tokenizer, prompt: str, new_tokens: int, sampling: Sampling, *, seed: int = 0
) -> str:
    """Returns the text that continues a prompt, up to `<|endoftext|>`."""
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
    """Returns the tokens that continue each prompt, without the first token of `stop` and what follows it."""
    steps = generate(model, prompts, new_tokens, sampling, seed=seed, stop=stop)
    return [list(takewhile(lambda token: token not in stop, tokens)) for tokens in zip(*steps, strict=True)]


@torch.no_grad()  # not inference_mode: see autocast
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
    """Continues each prompt by at most `new_tokens` tokens, `samples` times; yields the next token of every text, the
    samples of the first prompt first.

    Sample i draws its random numbers from seed + i. Except for rounding, the tokens of a text depend only on its prompt
    and its seed, not on the rest of the batch. A text that has yielded a token of `stop` keeps yielding it; when all
    texts have, the iterator ends. A prompt goes through the model once for all of its samples.

    A text may have any length. When its `block_size` positions are full, the second half of its tokens moves to the
    front and goes through the model again, because position embeddings are learned. For a prompt longer than
    `block_size`, the model sees only the last `block_size` tokens.

    `compiled` compiles one step with torch.compile, and again when the number of columns first changes. That takes
    half a minute each, or a few seconds from the compiler's cache, and pays off for long or many texts.
    `runtime.device.can_compile` tests whether a compiler exists.
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
        yield (listed := tokens.tolist())  # the only time that the host waits for the device
        if not remaining or all(token in stop for token in listed):
            return
        seen.scatter_(1, tokens[:, None], True)
        texts.append(tokens, listed)


class _Texts:
    """A batch of texts: their tokens, the cache of their keys and values, and the logits of their next tokens."""

    def __init__(self, model: GPT, prompts: list[list[int]], samples: int, new_tokens: int, compiled: bool):
        assert all(prompts) and not model.training
        self.model, self.block_size = model, model.config.block_size
        weight = model.wte.weight
        self.unit = GRAPH_COLUMNS if weight.is_cuda else COLUMNS
        prompts = [ids[-self.block_size :] for ids in prompts]
        self.ids = [list(ids) for ids in prompts for _ in range(samples)]  # B texts
        self.lengths = [len(ids) for ids in self.ids]  # how many tokens of each text are in the cache
        columns = self._columns(max(self.lengths) + new_tokens)
        cache = KVCache(model.config, len(prompts), columns, weight.dtype, weight.device)
        self.logits = _prefill(model, prompts, cache).repeat_interleave(samples, dim=0)  # (B, V)
        self.cache = cache.repeated(samples) if samples > 1 else cache
        self.step = Step(model, self.cache, torch.tensor(self.lengths, device=weight.device), compiled)

    def append(self, tokens: Tensor, listed: list[int]) -> None:
        """Appends one token per text, tokens (B,), which are also `listed`."""
        self.logits = self.step(tokens, self._columns(max(self.lengths) + 1))
        for row, token in enumerate(listed):
            self.ids[row].append(token)
            self.lengths[row] += 1
            if self.lengths[row] > self.block_size:  # the step put the token at the last position
                window = self.ids[row][-max(1, self.block_size // 2) :]
                cache = self.cache.view(slice(row, row + 1), self.cache.length)
                self.logits[row] = _prefill(self.model, [window], cache)[0]
                self.lengths[row] = len(window)
                self.step.positions[row] = len(window)

    def _columns(self, positions: int) -> int:
        """The number of cache columns to read for this many positions."""
        return min(self.block_size, -(-positions // self.unit) * self.unit)


def _prefill(model: GPT, prompts: list[list[int]], cache: KVCache) -> Tensor:
    """Reads prompts of any lengths into an empty cache; returns the logits after each, (P, V).

    Prompts are padded on the right. No token sees the padding, and generated tokens overwrite it.
    """
    device = model.wpe.weight.device
    last = torch.tensor([len(ids) - 1 for ids in prompts], device=device)  # (P,)
    padded = pad_sequence([torch.tensor(ids) for ids in prompts], batch_first=True).to(device)  # (P, T)
    positions = torch.arange(padded.size(1), device=device).expand_as(padded)
    hidden = model.hidden(padded, cache.view(slice(None), padded.size(1)), positions)  # (P, T, C)
    return model.logits(hidden[torch.arange(len(prompts), device=device), last])
