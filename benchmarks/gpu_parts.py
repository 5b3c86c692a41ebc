"""What `python -m benchmarks.gpu` measures. Each part yields figures as it finds them.

The toy sizes are for a CPU, where TORCH_COMPILE_DISABLE saves the time of compiling.
"""

import copy
import gc
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks import hellaswag as rows
from benchmarks.generate import our_tokens, race, their_tokens
from benchmarks.train import DEVICE, Sequences, ceiling, in_transformers, initial, ours, random_tokens, work
from gpt2.config.params import GPTConfig
from gpt2.model.gpt import GPT
from gpt2.model.openai import openai_config
from gpt2.pretraining.pretrain import flops_per_token
from gpt2.runtime.device import peak_flops
from gpt2.runtime.precision import DTYPES, resolve
from gpt2.tokenizer.bpe import train_bpe
from gpt2.tokenizer.tokenizer import Tokenizer

ROOT = Path(__file__).parents[1]
KERNELS = 10  # rows of the profiler's table
PROFILED = 3  # steps in that table
CURVE_STEPS, COMPARED = 100, 20  # steps on real tokens, and how many of them the CPU repeats
CURVE_TOLERANCE = {"float32": 0.01, "bfloat16": 0.05, "float16": 0.05}  # nats: rounding grows from step to step


def shape(toy: bool) -> GPTConfig:
    """The model that is measured, without dropout."""
    if toy:
        return GPTConfig(vocab_size=300, block_size=64, n_layer=2, n_head=2, n_embd=32, dropout=0.0)
    return openai_config("gpt2").model_copy(update={"dropout": 0.0})


# --- training -------------------------------------------------------------------------------------------------------


def train(toy: bool) -> Iterator[dict]:
    """Speed and memory of a training step beside transformers, the time that Muon adds, and the kernels of a step."""
    config, steps = shape(toy), 8 if toy else 30
    small, large = (2, 4) if toy else (32, 64)
    best = ceiling(256 if toy else 8192)  # operations per second in a product of two square bfloat16 matrices
    yield {"ceiling_tflops": round(best / 1e12, 3)}
    found: dict[str, dict] = {}

    def measured(name: str, size: int) -> dict:
        _forget()
        result = work(name, config, size, steps)
        row = {"step_ms": round(1000 * result["seconds"], 2), **_speed(config, size, result["seconds"], best)}
        row |= {"peak_memory_gb": round(result["memory"] / 1000, 2), "first_loss": round(result["losses"][0], 4)}
        table = found.setdefault(f"{size} sequences of {config.block_size} tokens", {})
        table[name] = row
        if name == "transformers, compiled":
            row["ours_is"] = round(row["step_ms"] / table["ours"]["step_ms"], 3)
        return found

    yield measured("ours", small)
    yield measured("transformers, compiled", small)
    yield measured("ours", large)
    table = measured("ours, Muon", small)[f"{small} sequences of {config.block_size} tokens"]
    yield found | {"muon_share": round(1 - table["ours"]["step_ms"] / table["ours, Muon"]["step_ms"], 4)}
    yield {"kernels": kernels(config, small)}
    yield measured("transformers, compiled", large)


def _forget() -> None:
    """Frees what the measurement before has left: compiled code, memory and the record of its peak."""
    torch._dynamo.reset()
    gc.collect()
    if DEVICE.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _speed(config: GPTConfig, batch_size: int, seconds: float, best: float) -> dict:
    """Tokens per second, and their operations as a share of the data sheet's peak and of the measured one."""
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in GPT(config).parameters())
    speed, peak = batch_size * config.block_size / seconds, peak_flops(DEVICE)
    operations = speed * flops_per_token(config, parameters)
    return {
        "tokens_per_second": round(speed),
        "model_flops_utilization": peak and round(operations / peak, 4),
        "share_of_ceiling": round(operations / best, 4),
    }


class Profiled(Sequences):
    """Sequences that run the profiler from the reading of one batch to that of another."""

    def __init__(self, tokens: Tensor, first: int):
        super().__init__(tokens)
        self.first = first
        device = ProfilerActivity.CUDA if DEVICE.type == "cuda" else ProfilerActivity.CPU
        self.profiler = profile(activities=[device])

    def batch(self, ids: np.ndarray) -> tuple[Tensor, Tensor]:
        """Inputs and targets (B, T)."""
        if len(self.began) in (self.first, self.first + PROFILED):
            if DEVICE.type == "cuda":
                torch.cuda.synchronize()
            self.profiler.start() if len(self.began) == self.first else self.profiler.stop()
        return super().batch(ids)


def kernels(config: GPTConfig, batch_size: int) -> list[dict]:
    """The kernels (on a CPU: operations) of our training step that take the longest, in milliseconds per step."""
    _forget()
    data = Profiled(random_tokens(config, batch_size), first=5)
    ours(config, data, steps=data.first + PROFILED + 3)
    attribute = "self_device_time_total" if DEVICE.type == "cuda" else "self_cpu_time_total"
    averages = [event for event in data.profiler.key_averages() if not event.is_user_annotation]
    events = [(event.key, event.count, getattr(event, attribute)) for event in averages]
    total = sum(microseconds for _, _, microseconds in events)
    return [
        {
            "name": name[:100],
            "calls": round(count / PROFILED, 1),
            "ms": round(microseconds / PROFILED / 1000, 3),
            "share": round(microseconds / total, 4),
        }
        for name, count, microseconds in sorted(events, key=lambda event: -event[2])[:KERNELS]
    ]


# --- generation and HellaSwag ---------------------------------------------------------------------------------------


def generate(toy: bool) -> Iterator[dict]:
    """Whether float32 gives the tokens of transformers, then the speed in half precision, compiled last."""
    model = initial(shape(toy)).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # a fresh model repeats one token
            parameter += 0.1 * torch.randn_like(parameter)
    theirs = in_transformers(model).eval().to(DEVICE)
    theirs.generation_config.eos_token_id = None
    model.to(DEVICE)
    prompt_tokens, new_tokens = (8, 8) if toy else (32, 128)
    prompts = torch.randint(model.config.vocab_size, (64, prompt_tokens), device=DEVICE)  # (B, T)
    sizes = (1, 8) if toy else (1, 8, 64)

    competitors = {"ours": partial(our_tokens, model, compiled=False), "transformers": partial(their_tokens, theirs)}
    for size in sizes[:2]:
        found = race(competitors, prompts[:size], new_tokens, repeats=1)
        same = found["ours"]["tokens"] == found["transformers"]["tokens"]
        yield {f"float32, batch {size}": {"same_tokens": same}}
    precision, speeds = resolve("auto", DEVICE), {}
    half, their_half = copy.deepcopy(model).to(DTYPES[precision]), theirs.to(DTYPES[precision])
    for compiled in (False, True):
        competitors = {"ours": partial(our_tokens, half, compiled=compiled)}
        if not compiled:
            competitors["transformers"] = partial(their_tokens, their_half)
        for size in sizes:
            found = race(competitors, prompts[:size], new_tokens, repeats=3)
            if not compiled:
                speeds[size] = found["transformers"]["tokens_per_second"]
            speed = found["ours"]["tokens_per_second"]
            yield {
                f"{precision}, batch {size}{', compiled' if compiled else ''}": {
                    "tokens_per_second": round(speed, 1),
                    "transformers": round(speeds[size], 1),
                    "ours_is": round(speed / speeds[size], 3),
                    "first_call_seconds": round(found["ours"]["first_seconds"], 1),
                }
            }


def hellaswag(toy: bool) -> Iterator[dict]:
    """Examples per second beside a loop that scores four padded rows at a time; texts with HellaSwag's lengths."""
    config = shape(toy)
    tokenizer, tokens = project_tokens(toy)
    random = np.random.default_rng(0)

    def text(least: int, most: int) -> str:
        first = random.integers(len(tokens) - most)
        return tokenizer.decode(tokens[first : first + random.integers(least, most)].tolist())

    examples = [  # of HellaSwag's contexts, eight in ten have 14 to 38 tokens; of its endings, 7 to 23
        rows.Example(ind=n, ctx=text(14, 39), endings=[text(7, 24) for _ in range(4)], label=0, activity_label="")
        for n in range(12 if toy else 500)
    ]
    model, reference = initial(config).eval(), None
    for precision in ("float32", resolve("auto", DEVICE)):
        scores, seconds = rows.ours(model, examples, tokenizer, precision)
        theirs, their_seconds = rows.transformers(model, examples, tokenizer, precision)
        reference = torch.tensor(theirs) if reference is None else reference
        yield {
            precision: {
                "examples_per_second": round(len(examples) / seconds, 1),
                "transformers": round(len(examples) / their_seconds, 1),
                "ours_is": round(their_seconds / seconds, 2),
                "largest_difference": round((torch.tensor(scores) - reference).abs().max().item(), 5),  # nats
            }
        }


# --- a curve on real tokens -----------------------------------------------------------------------------------------


def curve(toy: bool) -> Iterator[dict]:
    """A hundred steps on real tokens; the first losses beside those of float32 on the CPU."""
    config, (_, tokens) = shape(toy), project_tokens(toy)
    B, T = (4, 32) if toy else (4, 256)
    count, compared = (8, 4) if toy else (CURVE_STEPS, COMPARED)
    sequences = torch.from_numpy(tokens[: len(tokens) // (T + 1) * (T + 1)].astype(np.int64)).view(-1, T + 1)

    def losses(steps: int, precision: str, device: str = "auto") -> np.ndarray:
        data = Sequences(sequences)
        return np.array(ours(config, data, steps, batch_size=B, precision=precision, compile=False, device=device)[0])

    precision = resolve("auto", DEVICE)
    found = {precision: losses(count, precision)}
    yield {"precision": precision, "losses": found[precision].round(4).tolist()}
    found["float32"] = losses(compared, "float32")
    expected = losses(compared, "float32", "cpu")
    yield {"losses_on_the_cpu": expected.round(4).tolist()}
    differences = {name: float(np.abs(values[:compared] - expected).max()) for name, values in found.items()}
    yield {"largest_differences": {name: round(value, 5) for name, value in differences.items()}}
    if wrong := [name for name, value in differences.items() if not value < CURVE_TOLERANCE[name]]:
        raise RuntimeError(f"not the curve of the CPU: {', '.join(wrong)}, tolerances {CURVE_TOLERANCE}")


def project_tokens(toy: bool) -> tuple[Tokenizer, np.ndarray]:
    """The pages and the code of this project as tokens, and a tokenizer trained on them: no network is needed."""
    patterns = ["benchmarks/*.md"] if toy else ["*.md", "docs/*.md", "gpt2/**/*.py", "stages/*.py", "tests/**/*.py"]
    texts = [path.read_text(encoding="utf-8") for pattern in patterns for path in sorted(ROOT.glob(pattern))]
    tokenizer = Tokenizer(train_bpe(texts, 300 if toy else 4096))
    return tokenizer, np.concatenate([[*tokenizer.encode(text), tokenizer.eot] for text in texts])
