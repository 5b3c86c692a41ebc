"""Endings scored in a tree get the scores of separate rows, which transformers computes in float64."""

from itertools import pairwise

import pytest
import torch
from transformers import GPT2LMHeadModel

from gpt2.evaluation.prefix_tree import PrefixTree, build_trees, length_batches, log_likelihoods
from gpt2.model import checkpoint
from gpt2.model.gpt import GPT
from tests.small import CONFIG, small_model


@pytest.fixture(scope="module")
def model() -> GPT:
    return small_model().double()


def tree(generator: torch.Generator, context: int, *endings: int) -> PrefixTree:
    """A tree of random tokens with these lengths."""

    def tokens(n: int) -> list[int]:
        return torch.randint(CONFIG.vocab_size, (n,), generator=generator).tolist()

    return PrefixTree(tokens(context), [tokens(n) for n in endings])


@pytest.fixture(scope="module")
def trees() -> list[PrefixTree]:
    """Very different shapes: one ending or several, single tokens, one tree that fills the context of 16."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(5, 3, 1, 4, 2), (1, 1), (1, 1, 1), (9, 8, 2, 1, 8), (16, 1, 1), (2, 15), (3, 2, 6, 1, 1)]
    return [tree(generator, *shape) for shape in shapes]


@pytest.fixture(scope="module")
def expected(model, trees, tmp_path_factory) -> list[list[float]]:
    """Scores computed row by row."""
    directory = tmp_path_factory.mktemp("model")
    checkpoint.save(model, directory)
    theirs = GPT2LMHeadModel.from_pretrained(directory).double().eval()

    @torch.no_grad()
    def of_row(context: list[int], ending: list[int]) -> float:
        row = torch.tensor([context + ending])
        log_probabilities = theirs(row[:, :-1]).logits[0].log_softmax(dim=1)
        return log_probabilities.gather(1, row[0, 1:, None])[-len(ending) :].sum().item()

    return [[of_row(tree.context, ending) for ending in tree.endings] for tree in trees]


def test_a_tree_scores_as_rows_do(model, trees, expected):
    assert flat(log_likelihoods(model, trees)) == pytest.approx(flat(expected), abs=1e-5)  # their ln_f is float32


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_rest_of_the_batch_does_not_matter(model, trees, size):
    together = log_likelihoods(model, trees)
    apart = [scores for i in range(0, len(trees), size) for scores in log_likelihoods(model, trees[i : i + size])]
    assert flat(apart) == pytest.approx(flat(together), abs=1e-10)


def test_under_autocast_log_probabilities_are_still_float32(trees):
    """bfloat16 products cost 0.007 nats per token here; log-probabilities in bfloat16 would cost 0.02."""
    model = small_model()
    exact = log_likelihoods(model, trees)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = log_likelihoods(model, trees)
    lengths = [len(ending) for tree in trees for ending in tree.endings]
    errors = [abs(a - b) / n for a, b, n in zip(flat(exact), flat(rounded), lengths, strict=True)]
    assert 0 < max(errors) < 0.012


def test_a_tree_has_as_many_tokens_as_the_model_reads(trees):
    assert [len(tree) for tree in trees] == [5 + 2 + 0 + 3 + 1, 1, 1, 9 + 7 + 1 + 0 + 7, 16, 2 + 14, 3 + 1 + 5]


def test_rows_that_are_too_long_lose_their_beginning():
    context, endings = list(range(10)), [[100, 101], [110, 111, 112, 113, 114, 115, 116], list(range(120, 150))]
    first, second = endings[:2]
    assert build_trees(context, endings[:2], block_size=16) == [PrefixTree(context, [first, second])]
    cut = [PrefixTree(context, [first]), PrefixTree(context[1:], [second])]
    assert build_trees(context, endings[:2], block_size=15) == cut
    assert build_trees(context, endings, block_size=16)[2] == PrefixTree([133], [list(range(134, 150))])


def test_batches_respect_the_limit():
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(1, 50, (200,), generator=generator).tolist()
    lengths[17] = 120
    batches = length_batches(lengths, 100)
    assert sorted(item for batch in batches for item in batch) == list(range(200))
    assert batches[0] == [17]
    for batch, following in pairwise(batches[1:]):
        assert lengths[batch[0]] == max(lengths[item] for item in batch)
        assert lengths[batch[0]] * len(batch) <= 100 < lengths[batch[0]] * (len(batch) + 1)
        assert lengths[batch[-1]] >= lengths[following[0]]


def flat(scores: list[list[float]]) -> list[float]:
    return [value for group in scores for value in group]
