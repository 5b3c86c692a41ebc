"""The model against transformers in float64, and against itself: caches, masks, causality."""

import math

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from gpt2.config.params import GPTConfig
from gpt2.generation.kv_cache import KVCache
from gpt2.model import checkpoint
from gpt2.model.gpt import GPT, initial_model
from gpt2.model.loss import IGNORE
from gpt2.model.openai import openai_config
from tests.small import small_model

CONFIG = GPTConfig(block_size=32, n_layer=2, n_embd=48, n_head=3, dropout=0.0, vocab_size=101)
EXACT = {"rtol": 1e-9, "atol": 1e-10}  # float64


def random_ids(*shape: int, seed: int = 0, vocab_size: int = CONFIG.vocab_size) -> torch.Tensor:
    return torch.randint(vocab_size, shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def theirs() -> GPT2LMHeadModel:
    """A GPT-2 of transformers in float64 whose biases and layer norms are random too, so that none goes unnoticed."""
    config = GPT2Config(vocab_size=101, n_positions=32, n_embd=48, n_layer=2, n_head=3)
    torch.manual_seed(0)
    model = GPT2LMHeadModel._from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.double()


@pytest.fixture(scope="module")
def ours(theirs) -> GPT:
    """The same numbers in our model: exactly, because they were drawn in float32."""
    model = GPT(CONFIG).eval()
    model.load_state_dict(checkpoint.from_hf(theirs.state_dict()))
    return model.double()


def test_logits_and_loss_equal_transformers(ours, theirs):
    idx = random_ids(3, 20)
    expected = theirs(idx, labels=idx)
    torch.testing.assert_close(ours(idx), expected.logits, **EXACT)
    summed = ours(idx[:, :-1], idx[:, 1:])
    torch.testing.assert_close((summed / (3 * 19)).double(), expected.loss.double(), rtol=1e-6, atol=0)


def test_gradients_equal_transformers(ours, theirs):
    idx = random_ids(2, 16, seed=1)
    probe = torch.randn(2, 16, 101, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    ours.zero_grad()
    theirs.zero_grad()
    (ours(idx) * probe).sum().backward()
    (theirs(idx).logits * probe).sum().backward()
    named = dict(theirs.transformer.named_parameters())
    for name, parameter in ours.named_parameters():
        expected = named[name].grad
        expected = expected.t() if name.endswith(checkpoint.TRANSPOSED) else expected
        torch.testing.assert_close(parameter.grad, expected, **EXACT, msg=lambda text, name=name: f"{name}: {text}")


def test_attention_rows_sum_to_one_and_equal_transformers(ours, theirs):
    idx = random_ids(2, 12, seed=5)
    mine, expected = ours.attentions(idx), theirs(idx, output_attentions=True).attentions
    assert len(mine) == CONFIG.n_layer
    for layer, reference in zip(mine, expected, strict=True):
        assert layer.shape == (2, CONFIG.n_head, 12, 12)
        torch.testing.assert_close(layer.sum(dim=3), torch.ones(2, CONFIG.n_head, 12, dtype=torch.float64))
        assert layer.triu(diagonal=1).count_nonzero() == 0
        torch.testing.assert_close(layer, reference, **EXACT)


def test_output_attentions_leave_the_output_as_it_is(ours):
    idx = random_ids(2, 12, seed=6)
    torch.testing.assert_close(ours.hidden(idx, output_attentions=[]), ours.hidden(idx), **EXACT)


def test_a_later_token_does_not_change_earlier_logits(ours):
    idx = random_ids(1, 20, seed=7)
    changed = idx.clone()
    changed[0, 13] = (changed[0, 13] + 1) % CONFIG.vocab_size
    before, after = ours(idx), ours(changed)
    torch.testing.assert_close(after[:, :13], before[:, :13], **EXACT)
    assert not torch.allclose(after[:, 13:], before[:, 13:])


@pytest.mark.parametrize("chunks", [[32], [1] * 32, [5, 1, 17, 9], [31, 1]], ids=str)
def test_cache_in_chunks_equals_the_whole(ours, chunks):
    idx = random_ids(2, 32, seed=8)
    cache = KVCache(CONFIG, batch_size=2, length=40, dtype=torch.float64)
    places = torch.arange(32).expand(2, -1)
    parts = zip(idx.split(chunks, dim=1), places.split(chunks, dim=1), strict=True)
    parts = [ours.hidden(part, cache, place) for part, place in parts]
    torch.testing.assert_close(torch.cat(parts, dim=1), ours.hidden(idx), **EXACT)


def test_mask_and_positions_equal_separate_rows(ours):
    """A context and two continuations packed into one row: each continuation sees the context and itself."""
    context, first, second = random_ids(1, 7, seed=9), random_ids(1, 4, seed=10), random_ids(1, 6, seed=11)
    packed = torch.cat((context, first, second), dim=1)
    segment = torch.tensor([0] * 7 + [1] * 4 + [2] * 6)
    mask = torch.ones(17, 17, dtype=torch.bool).tril() & ((segment[:, None] == segment) | (segment == 0))
    positions = torch.cat((torch.arange(7), 7 + torch.arange(4), 7 + torch.arange(6)))
    hidden = ours.hidden(packed, positions=positions, mask=mask)
    alone = [ours.hidden(torch.cat((context, ending), dim=1)) for ending in (first, second)]
    torch.testing.assert_close(hidden[:, :11], alone[0], **EXACT)
    torch.testing.assert_close(hidden[:, 11:], alone[1][:, 7:], **EXACT)


def test_ignored_targets_are_left_out_of_the_sum(ours):
    idx, targets = random_ids(2, 10, seed=12), random_ids(2, 10, seed=13)
    parts = []
    for keep in (slice(0, 4), slice(4, 10)):
        some = torch.full_like(targets, IGNORE)
        some[:, keep] = targets[:, keep]
        parts.append(ours(idx, some))
    torch.testing.assert_close(sum(parts), ours(idx, targets))
    assert ours(idx, torch.full_like(targets, IGNORE)) == 0


@pytest.mark.parametrize(
    "config",
    [
        GPTConfig(block_size=256, n_layer=4, n_embd=128, n_head=4, dropout=0.0, vocab_size=4096),
        openai_config("gpt2").model_copy(update={"n_layer": 2}),
    ],
    ids=["sample", "gpt2"],
)
def test_a_new_model_knows_nothing(config):
    """Its loss is ln V, and half the variance of its logits more: C states of variance 1 times weights of 0.02^2."""
    torch.manual_seed(1337)
    model = GPT(config).eval()
    idx = random_ids(2, 129, vocab_size=config.vocab_size)
    with torch.no_grad():
        loss = model(idx[:, :-1], idx[:, 1:]).item() / (2 * 128)
    assert loss == pytest.approx(math.log(config.vocab_size) + config.n_embd * 0.02**2 / 2, abs=0.03)


def test_the_initial_model_depends_on_its_seed_alone():
    config = small_model().config
    torch.manual_seed(5)
    expected = GPT(config).state_dict()
    torch.manual_seed(1)
    following = torch.rand(1)
    torch.manual_seed(1)
    same, other = initial_model(config, seed=5).state_dict(), initial_model(config, seed=6).state_dict()
    assert all(torch.equal(same[name], tensor) for name, tensor in expected.items())
    assert not torch.equal(same["wpe.weight"], other["wpe.weight"])
    assert torch.rand(1) == following  # the caller's random numbers go on undisturbed


def test_projections_to_the_residual_stream_start_smaller():
    torch.manual_seed(0)
    model = GPT(openai_config("gpt2").model_copy(update={"n_layer": 2, "vocab_size": 1000}))
    deviations = {name: parameter.std().item() for name, parameter in model.named_parameters() if parameter.dim() == 2}
    for name, deviation in deviations.items():
        expected = 0.01 if name == "wpe.weight" else 0.02 / math.sqrt(4) if "c_proj" in name else 0.02
        assert deviation == pytest.approx(expected, rel=0.01), name


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("gpt2", 124_439_808), ("gpt2-medium", 354_823_168), ("gpt2-large", 774_030_080), ("gpt2-xl", 1_557_611_200)],
)
def test_number_of_parameters(name, parameters):
    with torch.device("meta"):
        model = GPT(openai_config(name))
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


@pytest.mark.parametrize(("n_embd", "n_head"), [(7, 7), (100, 4), (300, 6)])
@pytest.mark.parametrize("length", [1, 17])
@torch.no_grad()
def test_widths_that_are_no_multiple_of_16_are_right_in_bfloat16(n_embd, n_head, length):
    """bfloat16 has 8 significant bits, so that logits differ by about 0.01 of their size."""
    model, idx = small_model(n_embd=n_embd, n_head=n_head, block_size=32), random_ids(2, length, vocab_size=300)
    exact = model(idx)
    with torch.autocast("cpu", torch.bfloat16):
        products = model(idx)
    for logits in (products, model.to(torch.bfloat16)(idx)):
        assert (logits.float() - exact).norm() < 0.03 * exact.norm()
