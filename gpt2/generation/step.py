"""One step of generation: reads one token per text and computes the logits of the next.

On a GPU a step is a CUDA graph: one call starts its hundreds of kernels, which take longer to start one by one than to
run. A graph reads and writes the same memory each time, so the inputs and the output of a step stay in place.

Shapes: B texts, V vocabulary.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from gpt2.generation.kv_cache import KVCache
from gpt2.model.gpt import GPT


class Step:
    """A step for texts whose keys and values are in `cache` and whose next tokens have `positions` (B,).

    `compiled` compiles it with torch.compile.
    """

    def __init__(self, model: GPT, cache: KVCache, positions: Tensor, compiled: bool):
        self.model, self.cache, self.positions = model, cache, positions
        self.tokens = torch.zeros_like(positions)
        self.read = torch.compile(_read) if compiled else _read
        self.prepared: dict[int, Callable[[], Tensor]] = {}  # by the number of columns

    def __call__(self, tokens: Tensor, columns: int) -> Tensor:
        """Reads the next tokens (B,), which see the first `columns` of the cache; returns logits (B, V).

        The positions advance by one; a text that has used all of the model's puts its token at the last. On a GPU, the
        next step with as many columns overwrites the logits.
        """
        self.tokens.copy_(tokens)
        if columns not in self.prepared:
            view = self.cache.view(slice(None), columns)
            work = partial(self.read, self.model, self.tokens, self.positions, view)
            self.prepared[columns] = captured(work) if tokens.is_cuda else work
        logits = self.prepared[columns]()
        self.positions += 1
        return logits


def _read(model: GPT, tokens: Tensor, positions: Tensor, cache: KVCache) -> Tensor:
    positions = positions.clamp(max=model.config.block_size - 1)
    return model.logits(model.hidden(tokens[:, None], cache, positions[:, None])[:, 0])


def captured(work: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """Records `work` as a CUDA graph and returns a function that replays it.

    The first run, outside the graph, loads libraries and compiles. Under autocast the graph converts the weights each
    time, because autocast's converted copies do not live as long as the graph. Other threads may use the GPU meanwhile.
    """
    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    with torch.autocast("cuda", enabled=torch.is_autocast_enabled("cuda"), cache_enabled=False):
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            work()
        torch.cuda.current_stream().wait_stream(stream)
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            logits = work()

    def replay() -> Tensor:
        graph.replay()
        return logits

    return replay
