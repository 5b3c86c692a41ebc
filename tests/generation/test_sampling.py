"""The next token is drawn as transformers draws it."""

import pytest
import torch
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from gpt2.generation.sampling import GREEDY, Sampling, choose, warp

B, V = 4000, 50


def theirs(logits: torch.Tensor, ids: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """The distribution (B, V) that transformers draws from."""
    steps = LogitsProcessorList([TemperatureLogitsWarper(sampling.temperature)])
    if sampling.repetition_penalty != 1:
        steps.insert(0, RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    if sampling.top_k:
        steps.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        steps.append(TopPLogitsWarper(sampling.top_p))
    return steps(ids, logits.clone()).softmax(dim=1)


def generators(number: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(number)]


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(temperature=0.5),
        Sampling(temperature=2.0, top_k=4),
        Sampling(top_p=0.7),
        Sampling(repetition_penalty=1.3),
        Sampling(temperature=1.5, top_k=6, top_p=0.6, repetition_penalty=1.2),
    ],
    ids=str,
)
def test_distribution_and_draws_are_those_of_transformers(sampling):
    random = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(B, V, generator=random)
    ids = torch.randint(V, (B, 5), generator=random)
    seen = torch.zeros(B, V, dtype=torch.bool).scatter_(1, ids, True)
    expected = theirs(logits, ids, sampling)
    torch.testing.assert_close(warp(logits, sampling, seen).softmax(dim=1), expected, rtol=1e-5, atol=1e-7)
    drawn = []
    for seed, shares in enumerate(expected[:200]):  # as a batch of one, after a seed, their loop draws
        torch.manual_seed(seed)
        drawn.append(torch.multinomial(shares[None], num_samples=1).item())
    assert choose(logits[:200], sampling, generators(200), seen[:200]).tolist() == drawn
    assert len(set(drawn)) > 10


@pytest.mark.parametrize(
    "sampling", [GREEDY, Sampling(temperature=1e-320), Sampling(top_k=1), Sampling(top_p=0.0)], ids=str
)
def test_extremes_are_greedy(sampling):
    logits = torch.randn(50, 300, generator=torch.Generator().manual_seed(0))
    none = torch.zeros(50, 300, dtype=torch.bool)
    assert torch.equal(choose(logits, sampling, generators(50), none), logits.argmax(dim=1))


def test_the_repetition_penalty_also_acts_on_greedy_text():
    logits = torch.tensor([[2.0, 1.9, -1.0], [-2.0, -2.1, -9.0]])
    seen = torch.tensor([[True, False, False], [True, False, False]])
    assert choose(logits, Sampling(temperature=0, repetition_penalty=1.2), [], seen).tolist() == [1, 1]
