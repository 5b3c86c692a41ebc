"""Generation on a GPU: the tokens that the CPU gives."""

import copy
from collections.abc import Iterable

import pytest
import torch

from gpt2.generation.generate import generate
from gpt2.generation.sampling import GREEDY, Sampling
from gpt2.model.gpt import GPT
from gpt2.runtime.precision import DTYPES
from tests.cuda.conftest import WIDE, skip_compiling_on_cpu
from tests.small import small_model

pytestmark = pytest.mark.cuda
GENERATOR = torch.Generator().manual_seed(3)
PROMPTS = [torch.randint(1000, (n,), generator=GENERATOR).tolist() for n in (1, 17, 60, 64, 90)]  # the last is cut
WARM = Sampling(temperature=1.0, top_k=20)


@pytest.fixture(scope="module")
def model() -> GPT:
    return small_model(**WIDE | {"block_size": 64})


def texts(steps: Iterable[list[int]]) -> list[list[int]]:
    """The tokens of each text."""
    return [list(tokens) for tokens in zip(*steps, strict=True)]


@pytest.fixture(scope="module")
def expected(model) -> list[list[int]]:
    """The tokens on the CPU. Most texts grow beyond the context."""
    return texts(generate(model, PROMPTS, 40, GREEDY))


@pytest.mark.parametrize("compiled", [False, True])
def test_ragged_prompts_continue_as_on_the_cpu(model, device, expected, compiled):
    skip_compiling_on_cpu(compiled, device)
    here = copy.deepcopy(model).to(device)
    assert texts(generate(here, PROMPTS, 40, GREEDY, compiled=compiled)) == expected
    for prompt, tokens in zip(PROMPTS[1:3], expected[1:3], strict=True):
        assert texts(generate(here, [prompt], 40, GREEDY, compiled=compiled)) == [tokens]


@torch.no_grad()
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_picks_tokens_that_are_as_likely(model, device, precision):
    """By the logits of float32, at most a fifth of a standard deviation below the likeliest token."""
    here = copy.deepcopy(model).to(device, DTYPES[precision])
    found = texts(generate(here, PROMPTS[:2], 40, GREEDY))
    for prompt, tokens in zip(PROMPTS[:2], found, strict=True):
        logits = model(torch.tensor([prompt + tokens[:-1]]))[0, len(prompt) - 1 :]  # (40, V)
        chosen = logits.gather(1, torch.tensor(tokens)[:, None])[:, 0]
        assert ((logits.max(dim=1).values - chosen) < 0.2 * logits.std(dim=1)).all()


def test_a_drawn_text_depends_on_its_prompt_and_seed_alone(model, device):
    here = copy.deepcopy(model).to(device)
    together = texts(generate(here, PROMPTS, 8, WARM, seed=4, samples=2))
    for n, prompt in enumerate(PROMPTS):
        assert texts(generate(here, [prompt], 8, WARM, seed=4, samples=2)) == together[2 * n : 2 * n + 2]
    assert together[0] != together[1]
