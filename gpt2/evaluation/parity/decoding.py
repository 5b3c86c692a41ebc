"""Tokens that both models generate: greedily, and by sampling with the same random numbers.

Shapes: P prompts, T time (tokens).
"""

from dataclasses import asdict

import torch
from torch import Tensor
from transformers import GenerationConfig

from gpt2.evaluation.parity.cases import Case
from gpt2.evaluation.parity.forward import left_padded
from gpt2.evaluation.parity.pairs import Pair
from gpt2.generation.generate import continuations
from gpt2.generation.sampling import GREEDY, Sampling

ALL = "all four"
SAMPLINGS = {  # each setting alone, and all of them together
    "temperature": Sampling(temperature=0.7),
    "top-k": Sampling(top_k=40),
    "top-p": Sampling(top_p=0.9),
    "repetition penalty": Sampling(repetition_penalty=1.3),
    ALL: Sampling(temperature=0.8, top_k=50, top_p=0.95, repetition_penalty=1.2),
}


def random_prompts(vocab_size: int, count: int, longest: int, seed: int) -> list[Tensor]:
    """Random prompts of half of `longest` to `longest` tokens. The first has `longest`."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(longest - longest // 2, longest + 1, (count,), generator=generator).tolist()
    lengths[0] = longest
    return [torch.randint(vocab_size, (length,), generator=generator) for length in lengths]


def greedy_case(pair: Pair, prompts: list[Tensor], new_tokens: int) -> Case:
    """Compares greedy continuations of P prompts in one batch, which theirs pads on the left. Both use their caches."""
    ids, mask = left_padded(prompts)  # (P, T)
    theirs = their_tokens(pair, ids, mask, new_tokens, do_sample=False)
    ours = continuations(pair.ours, [prompt.tolist() for prompt in prompts], new_tokens, GREEDY)
    return _tokens_case(pair, "greedy tokens", "greedy tokens", torch.tensor(ours), theirs)


def sampling_case(pair: Pair, name: str, prompts: list[Tensor], new_tokens: int, seed: int) -> Case:
    """Compares tokens sampled after each prompt under SAMPLINGS[name] with the same seed.

    Theirs takes one prompt at a time and draws from torch's global generator. Ours takes all prompts in one batch, with
    one generator per prompt.
    """
    sampling = SAMPLINGS[name]
    ours = continuations(pair.ours, [prompt.tolist() for prompt in prompts], new_tokens, sampling, seed=seed)
    theirs = []
    with torch.random.fork_rng():
        for prompt in prompts:
            torch.manual_seed(seed)
            ids = prompt[None]
            theirs.append(their_tokens(pair, ids, torch.ones_like(ids), new_tokens, do_sample=True, **asdict(sampling)))
    quantity = f"sampled tokens, {name}"
    return _tokens_case(pair, "sampled tokens", quantity, torch.tensor(ours), torch.cat(theirs))


@torch.inference_mode()
def their_tokens(pair: Pair, ids: Tensor, mask: Tensor, new_tokens: int, **settings) -> Tensor:
    """Continues `ids` (P, T) with transformers' own loop and cache; returns (P, new_tokens).

    No token ends a text, so that all texts have the same length.
    """
    pair.theirs.generation_config = GenerationConfig()  # not the settings of its checkpoint
    options = {"max_new_tokens": new_tokens, "use_cache": True, "pad_token_id": 0, **settings}
    return pair.theirs.generate(ids, attention_mask=mask, **options)[:, ids.size(1) :]


def _tokens_case(pair: Pair, kind: str, quantity: str, ours: Tensor, theirs: Tensor) -> Case:
    """Measures the share of tokens (P, new_tokens) that differ."""
    return pair.case(kind, quantity, theirs.numel(), (ours != theirs).double().mean().item(), 0.0)
