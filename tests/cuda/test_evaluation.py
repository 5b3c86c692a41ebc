"""Evaluation on a GPU: the scores of float32 on the CPU."""

import copy

import numpy as np
import pytest
import torch

from gpt2.common.progress import bar
from gpt2.evaluation import hellaswag, perplexity
from gpt2.evaluation.hellaswag import Example
from gpt2.evaluation.prefix_tree import PrefixTree, log_likelihoods
from gpt2.model.gpt import GPT
from gpt2.runtime.precision import computing
from tests.cuda.conftest import TOLERANCE, WIDE, distance
from tests.small import ALONE, byte_tokenizer, small_model

pytestmark = pytest.mark.cuda
TEXT = "a man sits on the roof and starts to pull up tiles while two dogs watch him from below"


@pytest.fixture(scope="module")
def model() -> GPT:
    """A model of bytes."""
    return small_model(**WIDE | {"vocab_size": 257})


@pytest.fixture(scope="module")
def here(model, device) -> GPT:
    return copy.deepcopy(model).to(device)


@torch.no_grad()
def test_a_tree_scores_as_rows_do(model, here, device, precision):
    generator = torch.Generator().manual_seed(0)
    lengths = [(5, 3, 1, 4, 2), (1, 1), (90, 38, 2, 1, 20), (128, 1, 1), (2, 120)]
    trees = []
    for context, *endings in lengths:
        tokens = [torch.randint(257, (n,), generator=generator).tolist() for n in (context, *endings)]
        trees.append(PrefixTree(tokens[0], tokens[1:]))

    def of_row(context: list[int], ending: list[int]) -> float:
        row = torch.tensor([context + ending])
        scores = model(row[:, :-1]).log_softmax(dim=2)[0].gather(1, row[0, 1:, None])
        return scores[-len(ending) :].sum().item()

    expected = [of_row(tree.context, ending) for tree in trees for ending in tree.endings]
    with computing(precision, device):
        found = [score for scores in log_likelihoods(here, trees) for score in scores]
    assert distance(torch.tensor(found), torch.tensor(expected)) < TOLERANCE[precision]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_hellaswag_has_the_same_scores(model, here, alone, precision):
    random = np.random.default_rng(0)

    def text(most: int) -> str:
        return " ".join(random.choice(TEXT.split(), size=random.integers(1, most)))

    examples = [  # some are longer than the context of 128 bytes
        Example(ind=n, ctx=text(20), endings=[text(12) for _ in range(4)], label=n % 4, activity_label="Roof")
        for n in range(12)
    ]
    rows = hellaswag.score(model, byte_tokenizer(), examples, "completion", ALONE)[1]
    with computing(precision, alone.device):
        metrics, found = hellaswag.score(here, byte_tokenizer(), examples, "completion", alone)
    scores, expected = (torch.tensor([row["log_likelihoods"] for row in some]) for some in (found, rows))
    assert distance(scores, expected) < TOLERANCE[precision] and metrics["truncated"] > 0
    if precision == "float32":
        assert torch.equal(scores.argmax(dim=1), expected.argmax(dim=1))


def test_perplexity_is_the_same(model, here, precision):
    def nats(model: GPT, precision: str) -> float:
        with bar(disable=True) as progress:
            texts = [TEXT, "", TEXT * 5, "é"]  # one has several windows
            return perplexity.score(model, byte_tokenizer(), texts, 50, precision, progress).nats_per_token

    assert nats(here, precision) == pytest.approx(nats(model, "float32"), rel=TOLERANCE[precision])
