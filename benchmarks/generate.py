"""Speed of generation compared with transformers.

    python -m benchmarks.generate                    # GPT-2 124M, 32 + 128 tokens, one text and eight
    python -m benchmarks.generate --batch-sizes 1    # one text alone

All competitors take turns, ten times per row, on the same prompts and random weights of GPT-2's shape. The speed is
that of the median turn, and the ratio is the median of the ratios within each round of turns, which other work on the
machine disturbs less. Much of the time goes to reading the weights, so the memory bandwidth is printed too.

- ours, compiled: gpt2.generation.generate with `compiled`, if there is a compiler. The time of the first call, which
  compiles, is printed and not counted.
- ours: the same without compilation.
- transformers: GPT2LMHeadModel.generate with its cache.

In float32 all must give the same greedy tokens. For bfloat16 the error of the logits is printed: the root mean square
of the difference from float32 relative to the logits' standard deviation, and how often the likeliest tokens are equal.
"""

import argparse
import copy
import time
from collections.abc import Callable
from functools import partial
from statistics import median

import torch
from torch import Tensor
from transformers import GPT2LMHeadModel

from benchmarks.train import DEVICE, processor
from gpt2.evaluation.parity.pairs import random_pair
from gpt2.generation.generate import generate
from gpt2.generation.layout import arrange
from gpt2.generation.sampling import GREEDY
from gpt2.model.gpt import GPT
from gpt2.runtime.device import can_compile

Competitors = dict[str, Callable[..., list[list[int]]]]  # by name: prompts (B, T), new_tokens -> the new tokens


def models() -> tuple[GPT, GPT2LMHeadModel]:
    """The same random weights in both, such that greedy text varies."""
    pair = random_pair("gpt2", seed=0)
    pair.theirs.generation_config.eos_token_id = None
    return pair.ours.to(DEVICE), pair.theirs.to(DEVICE)


def our_tokens(model: GPT, prompts: Tensor, new_tokens: int, compiled: bool) -> list[list[int]]:
    """Greedy continuations of prompts (B, T)."""
    steps = generate(model, prompts.tolist(), new_tokens, GREEDY, compiled=compiled)
    return [list(tokens) for tokens in zip(*steps, strict=True)]


@torch.inference_mode()
def their_tokens(model: GPT2LMHeadModel, prompts: Tensor, new_tokens: int) -> list[list[int]]:
    """Greedy continuations by transformers."""
    mask = torch.ones_like(prompts)
    ids = model.generate(prompts, attention_mask=mask, do_sample=False, max_new_tokens=new_tokens, pad_token_id=0)
    return ids[:, prompts.size(1) :].tolist()


def seconds(work: Callable[[], list]) -> tuple[float, list]:
    """Returns how long some work took, and its result."""
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def bandwidth() -> float:
    """Bytes per second in the fastest of twenty sums over half a gigabyte."""
    numbers = torch.ones(1 << 27, device=DEVICE)
    return 4 * numbers.numel() / min(seconds(lambda: [numbers.sum().item()])[0] for _ in range(20))


@torch.inference_mode()
def error(model: GPT, reference: Tensor, tokens: Tensor) -> str:
    """Describes how far the logits for tokens (B, T) are from the reference (B, T, V)."""
    logits = model(tokens).float()
    distance = (logits - reference).square().mean().sqrt() / reference.std()
    same = (logits.argmax(dim=2) == reference.argmax(dim=2)).float().mean()
    return f"logits off by {distance:.2%}, {same:.1%} of the likeliest tokens the same"


def compare(arguments: argparse.Namespace) -> None:
    """Prints a line per precision, batch size and competitor."""
    ours, theirs = models()
    torch.manual_seed(0)
    tokens = torch.randint(50257, (max(arguments.batch_sizes), arguments.prompt_tokens), device=DEVICE)
    with torch.inference_mode():
        reference = ours(tokens)  # (B, T, V)
    print(f"{processor()}, torch {torch.__version__}, memory read at {bandwidth() / 1e9:.0f} GB/s")
    print(f"GPT-2 124M, {arguments.prompt_tokens} + {arguments.new_tokens} tokens")
    for precision, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        competitors: Competitors = {}
        model = copy.deepcopy(ours).to(dtype)
        for name, compiled in (("ours, compiled", True), ("ours", False)):
            if not compiled or can_compile("auto"):
                competitors[name] = partial(our_tokens, model, compiled=compiled)
        competitors["transformers"] = partial(their_tokens, copy.deepcopy(theirs).to(dtype))
        if precision != "float32":
            print(f"{precision}: {error(model, reference, tokens)}")
        for batch_size in arguments.batch_sizes:
            torch._dynamo.reset()  # torch compiles a function for eight shapes at most
            if DEVICE.type == "cpu":
                arrange(model, batch_size)
            results = race(competitors, tokens[:batch_size], arguments.new_tokens, arguments.repeats)
            theirs_now = results["transformers"]
            for name, result in results.items():
                assert precision != "float32" or result["tokens"] == theirs_now["tokens"], "not the same greedy tokens"
                speed = result["tokens_per_second"]
                rounds = zip(theirs_now["seconds"], result["seconds"], strict=True)
                times = median(theirs / ours for theirs, ours in rounds)
                ratio = "" if name == "transformers" else f"{times:8.2f}x transformers"
                note = f"  (first call {result['first_seconds']:.0f} s)" if "compiled" in name else ""
                print(f"{precision:10}batch {batch_size:<4}{name:16}{speed:8,.1f} tok/s{ratio}{note}", flush=True)


def race(competitors: Competitors, prompts: Tensor, new_tokens: int, repeats: int) -> dict[str, dict]:
    """Lets all take turns on prompts (B, T), after a first call that is not timed with the others.

    Returns, per competitor, `seconds` of each turn, `tokens_per_second` (all texts together, median of the turns),
    `first_seconds` (the first call, compilation included) and `tokens`, the new ones.
    """
    started = {
        name: seconds(lambda work=work: work(prompts, new_tokens=new_tokens))[0] for name, work in competitors.items()
    }
    turns = {name: [] for name in competitors}
    for _ in range(repeats):
        for name, work in competitors.items():
            turns[name].append(seconds(lambda work=work: work(prompts, new_tokens=new_tokens)))
    return {
        name: {
            "seconds": [taken for taken, _ in results],
            "tokens_per_second": len(prompts) * new_tokens / median(taken for taken, _ in results),
            "first_seconds": started[name],
            "tokens": results[-1][1],
        }
        for name, results in turns.items()
    }


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.generate", description=__doc__.splitlines()[0])
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8], metavar="B")
    parser.add_argument("--prompt-tokens", type=int, default=32, metavar="N")
    parser.add_argument("--new-tokens", type=int, default=128, metavar="N")
    parser.add_argument("--repeats", type=int, default=10, help="turns per competitor (default: 10)")
    arguments = parser.parse_args()
    sizes = (*arguments.batch_sizes, arguments.prompt_tokens, arguments.new_tokens, arguments.repeats)
    if min(sizes) < 1 or arguments.prompt_tokens + arguments.new_tokens > 1024:
        parser.error("expected numbers above 0, and at most 1024 tokens together")
    compare(arguments)


if __name__ == "__main__":
    main()
