"""The plan of a run: its arithmetic, that every profile fits the GPU it is for, and what would run next."""

import re
import shutil

import pytest

from gpt2.common.errors import InputError
from gpt2.common.files import write_json
from gpt2.config.params import Params
from stages.params import parse_params, read_yaml
from stages.plan import machine_of, model_config, plan, processes_of, work_of
from stages.profile import SAMPLE, overlaid
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def top(monkeypatch):
    monkeypatch.chdir(ROOT)


def profile(name: str, **train) -> Params:
    raw = overlaid(read_yaml(SAMPLE), name)
    raw["train"] |= train
    return parse_params(raw, name)


def lines(params: Params, gpu: str, count: int | None = None, price: float | None = None) -> str:
    return "\n".join(plan(params, machine_of(params, gpu, count), price))


def test_hours_and_money_follow_from_the_data_sheet():
    params = profile("gpt2-124m-1gpu")
    work = work_of(params, model_config(params))
    assert (work.parameters, work.tokens, work.flops_per_token) == (124_439_808, 9_999_745_024, 855_166_464)
    hours = work.flops / (0.4 * 989e12) / 3600
    assert 6.0 < hours < 6.3
    printed = lines(params, "h100", price=3)
    assert f"time    {hours:.1f} hours" in printed and f"money   {3 * hours:.2f} dollars" in printed
    eight = lines(params, "h100", 8, price=3)
    assert f"time    {60 * hours / 8:.1f} minutes" in eight and f"money   {3 * hours:.2f} dollars" in eight
    raw = params.model_dump() | {"machine": params.machine.model_dump() | {"recompute": True}}
    assert f"time    {hours * 4 / 3:.1f} hours" in lines(Params(**raw), "h100")


@pytest.mark.parametrize(
    ("name", "gpu"),
    [
        ("gpt2-124m-16gb", "t4"),
        ("gpt2-124m-24gb", "rtx3090"),
        ("gpt2-124m-1gpu", "a100"),
        ("gpt2-124m", "a100"),
        ("gpt2-medium", "a100"),
        ("gpt2-large", "a100"),
        ("gpt2-xl", "a100"),
    ],
)
def test_a_profile_fits_its_gpu_and_reads_each_token_once(name, gpu):
    params = profile(name)
    assert re.search(r"^ +\d+( +[\d,.]+){7}  <- auto$", lines(params, gpu), re.MULTILINE)
    corpus = params.data.corpus
    available = (corpus.max_tokens or {"sample-10BT": 10.2e9}[corpus.config]) * (1 - params.tokens.heldout)
    assert work_of(params, model_config(params)).tokens <= available


def test_a_model_too_large_for_the_gpu_is_named_as_such():
    assert "Not even one sample fits: set machine.recompute to true" in lines(profile("gpt2-xl"), "a100-40gb")
    assert "Not even one sample fits\n" in lines(profile("gpt2-xl"), "l4")  # weights and moments alone are too large


def test_precision_follows_the_gpu():
    params = profile("gpt2-124m-16gb")
    assert "Tesla T4, float16" in lines(params, "t4") and "A10G, bfloat16" in lines(params, "a10g")
    with pytest.raises(InputError, match="train.precision = 'bfloat16': Tesla T4 does not support it"):
        machine_of(profile("gpt2-124m", precision="bfloat16"), "t4", 1)
    with pytest.raises(InputError, match="--gpu h1000: expected one of .*h100"):
        machine_of(params, "h1000", 1)


@pytest.mark.parametrize(
    ("launcher", "processes"),
    [
        ("python", 1),
        ("torchrun --standalone --nproc-per-node=2", 2),
        ("srun --ntasks-per-node=1 torchrun --nnodes=2 --nproc_per_node 8 --rdzv-backend=c10d", 16),
    ],
)
def test_the_launcher_says_how_many_processes_there_are(launcher, processes):
    assert processes_of(launcher) == processes


@pytest.mark.chain
def test_here_ten_steps_are_measured_and_stale_stages_listed_with_their_seconds(chain):
    text = (chain.path / "params.yaml").read_text()
    (chain.path / "params.yaml").write_text(text.replace("max_new_tokens: 48", "max_new_tokens: 4", 1))
    seconds = {"start-up": 4.1, "other": 2.9}
    write_json(chain.path / ".scratch/seconds/generate_samples.json", seconds)
    printed = chain.ok("python", "-m", "stages.plan")
    assert re.search(r"time    .*, at [\d,]+ tokens per second, measured", printed)
    assert printed.endswith("took here last time): generate_samples (7 s), report\n")
    chain.restore()
    shutil.rmtree(chain.path / ".scratch")
