"""Dropout: random as it should be, and a function of seed, step, sample, layer and place alone."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.stats import binom, chisquare
from torch import Tensor, nn

from gpt2.adapters.classifier import GPTClassifier
from gpt2.adapters.lora import add_lora
from gpt2.classification.finetune import LabelledTexts
from gpt2.config.params import LoRAParams
from gpt2.instruction.finetune import ResponseModel, Responses
from gpt2.model.gpt import GPT, Dropout, scattered
from gpt2.runtime.device import can_compile
from gpt2.training.trainer import seeded_dropout
from tests.small import CONFIG, byte_tokenizer, small_model

TOKENIZER = byte_tokenizer()


def masks(model: nn.Module, shape: tuple[int, ...], step: int = 0, samples: range = range(4)) -> Tensor:
    """What each dropout of `model` keeps of that many ones a sample: (layers, B, *shape), true where kept."""
    ones = torch.ones(len(samples), *shape)
    with seeded_dropout(model, 3, step, samples):
        return torch.stack([layer(ones) > 0 for layer in model.modules() if isinstance(layer, Dropout)])


def layers(p: float, n: int, *widths: int) -> nn.Module:
    """`n` dropouts in training, with a parameter as every model has one."""
    return nn.Sequential(nn.Linear(1, 1), *(Dropout(p, *widths) for _ in range(n)))


# --- statistics ----------------------------------------------------------------------------------------------------


def test_scattered_against_unsigned_arithmetic():
    first, second = 0xDEADBEEF, 0x12345678
    places = np.arange(100_000, dtype=np.uint32)
    expected = places.copy()
    for word in (first, second, first):
        expected = (expected ^ np.uint32(word)) * np.uint32(0x45D9F3B)
        expected ^= expected >> np.uint32(16)
    found = scattered(torch.arange(100_000), torch.tensor(first), torch.tensor(second)).numpy()
    np.testing.assert_array_equal(found, expected)
    assert len(np.unique(found)) == 100_000


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_share_dropped_is_p_and_the_mean_stays(p):
    n = 8 * 64 * 768
    with seeded_dropout(model := layers(p, 1, 768), 0, 0, range(8)):
        y = model[1](torch.ones(8, 64, 768))
    kept = y[y != 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / (1 - p)))
    assert abs(len(kept) - n * (1 - p)) < 4 * math.sqrt(n * p * (1 - p))


def test_masks_of_samples_layers_and_steps_are_uncorrelated():
    model = layers(0.3, 5, 128)
    steps = [masks(model, (64, 128), step).flatten(0, 1) for step in range(4)]  # each (layers * B, T, C)
    kept = torch.cat(steps).flatten(1).double()  # 80 masks of 8,192 numbers
    z = torch.corrcoef(kept).fill_diagonal_(0) * math.sqrt(kept.size(1))
    assert z.abs().max() < 5  # the largest of 3,160 standard normal numbers is about 3.6
    assert z.triu().square().sum() / (80 * 79 / 2) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_neighbours_in_a_mask_are_independent(p):
    kept = masks(layers(p, 4, 512), (128, 512))[..., : 512 // 8 * 8].reshape(-1, 8)  # runs of eight along the channels
    found = np.bincount((kept * 2 ** torch.arange(8)).sum(dim=1).numpy(), minlength=256)
    ones = np.array([number.bit_count() for number in range(256)])
    expected = len(kept) * (1 - p) ** ones * p ** (8 - ones)
    assert chisquare(found, expected).pvalue > 0.001
    per_row = masks(layers(p, 4, 512), (128, 512)).sum(dim=3).flatten().numpy()  # kept of 512, position by position
    assert binom(512, 1 - p).var() == pytest.approx(per_row.var(), rel=0.1)


def test_without_seeds_torchs_generator_decides():
    drop, x = Dropout(0.5, 64), torch.ones(4, 16, 64)
    torch.manual_seed(1)
    first, second = drop(x), drop(x)
    torch.manual_seed(1)
    assert torch.equal(drop(x), first) and not torch.equal(first, second)
    assert not torch.equal(first[0], first[1])


# --- what a mask depends on ----------------------------------------------------------------------------------------


def test_a_mask_is_the_same_however_the_batch_is_cut_and_padded():
    hidden, weights = layers(0.5, 2, 24), layers(0.5, 2, 16, 16)
    whole, square = masks(hidden, (16, 24), samples=range(8)), masks(weights, (3, 16, 16), samples=range(8))
    for samples in (range(0, 4), range(4, 6), range(6, 7), range(7, 8)):
        part = slice(samples.start, samples.stop)
        assert torch.equal(masks(hidden, (9, 24), samples=samples), whole[:, part, :9])
        assert torch.equal(masks(weights, (3, 9, 7), samples=samples), square[:, part, :, :9, :7])


def test_seeds_hold_within_and_for_their_samples_alone():
    model = small_model(dropout=0.5).train()
    idx = torch.zeros(4, 16, dtype=torch.int64)
    with seeded_dropout(model, 0, 0, range(4)):
        assert torch.equal(model(idx), model(idx))
        with pytest.raises(AssertionError, match="seeds of 4 samples for a batch of 2"):
            model(idx[:2])
    assert not torch.equal(model(idx), model(idx))
    assert model(idx[:2]).shape == (2, 16, CONFIG.vocab_size)
    model.eval()
    with seeded_dropout(model, 0, 0, range(2)):
        assert torch.equal(model(idx)[:2], model(idx[:2]))


def windows() -> tuple[nn.Module, list[tuple[Tensor, Tensor]]]:
    """GPT and single samples of equal length."""
    tokens = torch.randint(CONFIG.vocab_size, (8, 17), generator=torch.Generator().manual_seed(0))
    return small_model(), [(row[:, :-1], row[:, 1:]) for row in tokens.split(1)]


def texts():
    """A classifier and texts of many lengths."""
    rows = [{"text": "warm as toast"[: 3 + i], "label": "hot"} for i in range(8)]
    model = GPTClassifier(small_model(vocab_size=257), 2, TOKENIZER.eot)
    return model, LabelledTexts(rows, ["cold", "hot"], TOKENIZER, CONFIG.block_size, "-")


def responses():
    """LoRA and instructions of many lengths."""
    rows = [{"instruction": "Repeat.", "input": "", "output": "abcdefgh"[: 1 + i]} for i in range(8)]
    model = small_model(vocab_size=257, block_size=256)
    targets = ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]
    add_lora(model, LoRAParams(rank=3, alpha=6.0, targets=targets))
    for name, parameter in model.named_parameters():
        if name.endswith("lora_B"):
            nn.init.normal_(parameter, std=0.1)
    return ResponseModel(model), Responses(rows, TOKENIZER, 256, "-")


class Rows:
    """Single samples as a dataset."""

    def __init__(self, rows):
        self.rows = rows

    def batch(self, ids):
        return tuple(torch.cat(parts) for parts in zip(*(self.rows[i] for i in ids), strict=True))


@pytest.mark.parametrize("task", [windows, texts, responses])
def test_loss_and_gradient_do_not_depend_on_the_cut(task):
    model, data = task()
    data = Rows(data) if task is windows else data
    model.double().train()

    def summed(*cuts: int, step: int = 0) -> tuple[float, Tensor]:
        """Loss and gradient over eight samples, cut there."""
        model.zero_grad()
        loss = 0.0
        for start, stop in pairwise((0, *cuts, 8)):
            inputs, targets = data.batch(np.arange(start, stop))
            with seeded_dropout(model, 11, step, range(start, stop)):
                share = model(inputs, targets)
            share.backward()
            loss += share.item()
        return loss, torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])

    loss, gradient = summed()
    for cuts in ((4,), (1, 2, 3, 4, 5, 6, 7), (3, 7)):
        same_loss, same_gradient = summed(*cuts)
        assert same_loss == pytest.approx(loss, rel=1e-6)
        assert (same_gradient - gradient).norm() < 1e-6 * gradient.norm()
    other_loss, other_gradient = summed(step=1)
    assert other_loss != pytest.approx(loss, rel=1e-4)
    assert (other_gradient - gradient).norm() > 0.1 * gradient.norm()


# --- gradients -----------------------------------------------------------------------------------------------------


def test_gradients_equal_finite_differences():
    block = small_model(dropout=0.4).train().double().h[0]
    x = torch.randn(2, 6, CONFIG.n_embd, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def forward(x: Tensor) -> Tensor:
        with seeded_dropout(block, 0, 0, range(2)):
            return block(x, None, None)

    assert torch.autograd.gradcheck(forward, x.requires_grad_(), fast_mode=True)


def test_attention_drops_weights_and_scales_up_the_rest():
    """Against attention by hand, with the mask laid over transparent weights."""
    attention = small_model(dropout=0.4).double().h[0].attn
    x = torch.randn(2, 6, CONFIG.n_embd, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    record: list[Tensor] = []
    attention(x, None, None, record)
    attention.train()
    attention.resid_dropout.p = 0.0
    with seeded_dropout(attention, 0, 0, range(2)):
        kept = attention.attn_dropout(torch.ones_like(record[0])) > 0
        y = attention(x, None, None)
    v = attention.c_attn(x)[..., 2 * CONFIG.n_embd :].view(2, 6, CONFIG.n_head, -1).transpose(1, 2)
    expected = (record[0] * kept / 0.6) @ v  # (B, H, T, D)
    torch.testing.assert_close(y, attention.c_proj(expected.transpose(1, 2).reshape(2, 6, CONFIG.n_embd)))
    assert 0 < kept.sum() < kept.numel()


# --- compiled, and elsewhere ---------------------------------------------------------------------------------------


def losses(forward, model: GPT, device: str = "cpu") -> Tensor:
    """The loss of three samples, step after step."""
    idx = torch.arange(3 * 16, device=device).view(3, 16)
    found = []
    for step in range(4):
        with seeded_dropout(model, 2, step, range(3, 6)):
            found.append(forward(idx, idx).detach())
    return torch.stack(found).cpu()


@pytest.mark.skipif(not can_compile("auto"), reason="there is no C++ compiler")
def test_compiled_masks_are_those_of_eager_and_new_at_each_step():
    model = small_model(n_layer=1).train()
    compiled = torch.compile(model)
    losses(compiled, model)
    with torch._dynamo.config.patch(error_on_recompile=True):
        found = losses(compiled, model)
    torch.testing.assert_close(found, losses(model, model), rtol=1e-6, atol=0)
    assert found.diff().abs().min() > 1e-3


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_masks_on_the_gpu_are_those_on_the_cpu():
    weights = layers(0.3, 3, 16, 16)
    on_cpu = masks(weights, (4, 16, 16))
    ones = torch.ones(4, 4, 16, 16, device="cuda")
    with seeded_dropout(weights.cuda(), 3, 0, range(4)):
        on_gpu = torch.stack([layer(ones) > 0 for layer in weights[1:]])
    assert torch.equal(on_gpu.cpu(), on_cpu)
    model = small_model()
    expected = losses(model.train(), model)
    for forward in (model.cuda(), torch.compile(model)):
        torch.testing.assert_close(losses(forward, model, "cuda"), expected, rtol=1e-3, atol=0)
