"""Generation equals transformers', in any batch and beyond the length of the context."""

from dataclasses import asdict

import pytest
import torch
from transformers import GPT2LMHeadModel

from gpt2.generation import generate as module
from gpt2.generation.generate import continuations, generate
from gpt2.generation.layout import arrange
from gpt2.generation.sampling import GREEDY, Sampling
from gpt2.model import checkpoint
from gpt2.model.gpt import GPT
from gpt2.runtime.device import can_compile
from tests.small import CONFIG, small_model

PROMPT = [5, 250, 17]
WARM = Sampling(temperature=0.9, top_k=40, top_p=0.95, repetition_penalty=1.1)
BLOCK_SIZE = CONFIG.block_size


@pytest.fixture(scope="module")
def model() -> GPT:
    """Large weights make greedy text vary; a text that repeats one token would hide errors."""
    model = small_model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return model


@pytest.fixture(scope="module")
def theirs(model, tmp_path_factory) -> GPT2LMHeadModel:
    directory = tmp_path_factory.mktemp("model")
    checkpoint.save(model, directory)
    theirs = GPT2LMHeadModel.from_pretrained(directory)
    theirs.generation_config.eos_token_id = None
    return theirs


@pytest.fixture(scope="module")
def prompts() -> list[list[int]]:
    random = torch.Generator().manual_seed(0)
    return [torch.randint(300, (length,), generator=random).tolist() for length in (1, 9, 4, 4, 14, 2, 40)]


def samples(model: GPT, prompt: list[int], new_tokens: int, sampling: Sampling, **more) -> list[list[int]]:
    """The tokens of each sample."""
    return [list(tokens) for tokens in zip(*generate(model, [prompt], new_tokens, sampling, **more), strict=True)]


def greedy(model: GPT, prompt: list[int], new_tokens: int) -> list[int]:
    (tokens,) = samples(model, prompt, new_tokens, GREEDY)
    return tokens


def test_greedy_equals_transformers_and_no_cache(model, theirs):
    expected = theirs.generate(torch.tensor([PROMPT]), do_sample=False, max_new_tokens=13, pad_token_id=0)[0].tolist()
    assert PROMPT + greedy(model, PROMPT, 13) == expected
    ids = list(PROMPT)
    for _ in range(13):
        ids.append(model(torch.tensor([ids]))[0, -1].argmax().item())
    assert ids == expected


def test_the_same_seed_draws_the_tokens_of_transformers(model, theirs):
    for seed, tokens in enumerate(samples(model, PROMPT, 13, WARM, seed=0, samples=8)):
        torch.manual_seed(seed)
        settings = {"do_sample": True, "max_new_tokens": 13, "pad_token_id": 0, **asdict(WARM)}
        expected = theirs.generate(torch.tensor([PROMPT]), **settings)
        assert PROMPT + tokens == expected[0].tolist()


@pytest.mark.parametrize("sampling", [GREEDY, WARM], ids=["greedy", "drawn"])
def test_a_text_depends_on_its_prompt_and_seed_alone(model, prompts, sampling):
    steps = generate(model, prompts, 50, sampling, seed=3, samples=2)
    together = [list(tokens) for tokens in zip(*steps, strict=True)]
    alone = [samples(model, prompt, 50, sampling, seed=seed)[0] for prompt in prompts for seed in (3, 4)]
    assert together == alone
    assert len({tuple(tokens) for tokens in alone}) == (7 if sampling is GREEDY else 14)


def test_a_text_longer_than_the_context_continues_from_its_second_half(model):
    ids, window = list(PROMPT), list(PROMPT)
    for _ in range(3 * BLOCK_SIZE):
        ids.append(model(torch.tensor([window]))[0, -1].argmax().item())
        window = ids[-(BLOCK_SIZE // 2) :] if len(window) == BLOCK_SIZE else [*window, ids[-1]]
    assert PROMPT + greedy(model, PROMPT, 3 * BLOCK_SIZE) == ids


@pytest.mark.parametrize("block_size", [1, 2, 3])
def test_any_context_is_long_enough(block_size):
    assert len(greedy(small_model(block_size=block_size), PROMPT, 10)) == 10


def test_the_model_sees_the_end_of_a_long_prompt(model):
    ids = list(range(100, 140))
    assert greedy(model, ids, 20) == greedy(model, ids[-BLOCK_SIZE:], 20)


def test_prompts_go_through_the_model_once_and_the_global_generator_is_unchanged(model):
    shapes = []
    hook = model.wte.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(inputs[0].shape)))
    state = torch.get_rng_state()
    drawn = samples(model, PROMPT, 4, WARM, samples=3)
    hook.remove()
    assert shapes == [(1, 3), (3, 1), (3, 1), (3, 1)]
    assert len({tuple(tokens) for tokens in drawn}) == 3
    assert torch.equal(torch.get_rng_state(), state)


def test_a_text_that_stopped_has_no_further_tokens(model, prompts):
    free = [samples(model, prompt, 30, WARM)[0] for prompt in prompts]
    stop = free[2][7]
    steps = list(generate(model, prompts, 30, WARM, stop=[stop]))
    for tokens, unstopped in zip(zip(*steps, strict=True), free, strict=True):
        end = unstopped.index(stop) if stop in unstopped else 30
        assert list(tokens[:end]) == unstopped[:end]
        assert set(tokens[end:]) <= {stop}
    expected = [tokens[: tokens.index(stop)] if stop in tokens else tokens for tokens in free]
    assert continuations(model, prompts, 30, WARM, stop=[stop]) == expected
    (alone,) = samples(model, prompts[2], 30, WARM, stop=[stop])
    assert alone == free[2][:8]  # the iterator ends with the last text
    other = free[2][4]
    assert continuations(model, prompts[2:3], 30, WARM, stop=[stop, other]) == [free[2][: free[2].index(other)]]


def test_under_autocast_the_cache_gives_the_tokens_that_the_model_gives_without_one(model, prompts):
    """As in training, where samples are generated in bfloat16."""
    with torch.autocast("cpu", torch.bfloat16):
        tokens = greedy(model, PROMPT, 8)
        logits = model(torch.tensor([PROMPT + tokens[:-1]]))[0, len(PROMPT) - 1 :].float()  # (8, V)
    chosen = logits[range(8), tokens]
    assert ((logits.max(dim=1).values - chosen) < 0.02 * logits.std()).all()
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("sampling", [GREEDY, WARM], ids=["greedy", "drawn"])
def test_the_number_of_columns_that_a_step_reads_changes_no_token(model, prompts, sampling, monkeypatch):
    """Steps repeat with tensors that stay in place, as a CUDA graph needs, also when a window moves."""
    expected = list(generate(model, prompts, 50, sampling, samples=2))
    monkeypatch.setattr(module, "COLUMNS", 4)
    assert BLOCK_SIZE > 3 * 4
    assert list(generate(model, prompts, 50, sampling, samples=2)) == expected


def test_matrices_by_columns_generate_and_save_the_same(model, prompts, tmp_path):
    expected = list(generate(model, prompts, 20, WARM))
    arranged = small_model()
    arranged.load_state_dict(model.state_dict())
    arrange(arranged, rows=4)
    assert arranged.h[0].mlp.c_fc.weight.t().is_contiguous()
    assert list(generate(arranged, prompts, 20, WARM)) == expected
    for directory, saved in ((tmp_path / "rows", model), (tmp_path / "columns", arranged)):
        checkpoint.save(saved, directory)
    rows, columns = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("rows", "columns"))
    assert rows == columns
    arrange(arranged, rows=1)
    assert arranged.h[0].mlp.c_fc.weight.is_contiguous()


@pytest.mark.skipif(not can_compile("auto"), reason="there is no C++ compiler")
def test_the_compiled_step_gives_the_same_tokens(model, prompts):
    for batch in ([PROMPT], prompts):
        expected = list(generate(model, batch, 40, WARM))
        assert list(generate(model, batch, 40, WARM, compiled=True)) == expected
