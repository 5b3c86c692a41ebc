"""Speed of HellaSwag with a GPT-2 of 124M random weights, compared with a straightforward loop in transformers:

    GPT2_REAL_DATA=DIR TIKTOKEN_CACHE_DIR=DIR/tiktoken python -m benchmarks.hellaswag

The competitors score the first examples of DIR/hellaswag one after the other, with the same weights and the completion
protocol:

- ours: gpt2.evaluation.hellaswag.score, as the stage and the command run it;
- transformers: GPT2LMHeadModel in the type that it is loaded in, one example at a time, its four rows padded to the
  longest, with the logits of every token.

The time includes tokenization, and starts after a few warm-up examples. In float32 every log-likelihood must be within
1e-3 nats of the loop's, and every prediction must be the same.
"""

import argparse
import copy
import os
import sys
import time
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from transformers import GPT2LMHeadModel

from benchmarks.train import DEVICE, in_transformers, initial
from gpt2.common.progress import bar
from gpt2.evaluation.hellaswag import Example, read, score
from gpt2.model.gpt import GPT
from gpt2.model.openai import openai_config
from gpt2.runtime.precision import DTYPES, computing
from gpt2.runtime.world import world
from gpt2.tokenizer.tokenizer import Tokenizer

WARMUP = 8  # examples
TOLERANCE = 1e-3  # nats per ending


def ours(model: GPT, examples: list[Example], tokenizer: Tokenizer, precision: str) -> tuple[list[list[float]], float]:
    """Returns the log-likelihoods of the endings, and the seconds that scoring took."""
    with world() as here:
        model = copy.deepcopy(model).to(here.device)
        with computing(precision, here.device):
            score(model, tokenizer, examples[:WARMUP], "completion", here)
            began = time.perf_counter()
            _, results = score(model, tokenizer, examples, "completion", here)
    return [result["log_likelihoods"] for result in results], time.perf_counter() - began


def transformers(
    model: GPT, examples: list[Example], tokenizer: Tokenizer, precision: str
) -> tuple[list[list[float]], float]:
    """Does the same in a loop over the examples."""
    theirs = in_transformers(model).eval().to(DEVICE, DTYPES[precision])
    for example in examples[:WARMUP]:
        rows_of(theirs, tokenizer, example)
    began = time.perf_counter()
    scores = [rows_of(theirs, tokenizer, example).tolist() for example in bar(examples)]
    return scores, time.perf_counter() - began


@torch.inference_mode()
def rows_of(model: GPT2LMHeadModel, tokenizer: Tokenizer, example: Example) -> Tensor:
    """The log-likelihoods (4,) of one example's endings."""
    context = tokenizer.encode(example.ctx)
    rows = [torch.tensor(context + tokenizer.encode(" " + ending)) for ending in example.endings]
    ids = pad_sequence(rows, batch_first=True).to(model.device)  # (4, T)
    column, lengths = torch.arange(ids.size(1)), torch.tensor([len(row) for row in rows])[:, None]
    attention, scored = column < lengths, (column >= len(context)) & (column < lengths)  # (4, T)
    logits = model(ids, attention_mask=attention.long().to(model.device)).logits[:, :-1].float()  # (4, T - 1, V)
    losses = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")  # (4 * (T - 1),)
    return -(losses.view(len(rows), -1) * scored[:, 1:].to(model.device)).sum(dim=1)


COMPETITORS = {
    f"{competitor.__name__}, {precision}": partial(competitor, precision=precision)
    for competitor in (transformers, ours)
    for precision in ("float32", "bfloat16")
}


def compare(path: Path, count: int) -> None:
    """Prints a line per competitor: its speed, the speedup of ours in bfloat16 over it, and how far its scores and
    predictions are from those of the float32 loop."""
    examples, tokenizer, model = read(path)[:count], Tokenizer.gpt2(), initial(openai_config("gpt2")).eval()
    results = {name: competitor(model, examples, tokenizer) for name, competitor in COMPETITORS.items()}
    fastest, reference = results["ours, bfloat16"][1], torch.tensor(results["transformers, float32"][0])
    print(f"{'':24}{'examples/s':>12}{'ours is':>10}{'difference':>12}{'predictions':>13}")
    n = len(examples)  # the file may hold fewer than count
    for name, (log_likelihoods, seconds) in results.items():
        scores = torch.tensor(log_likelihoods)
        largest = (scores - reference).abs().max().item()
        same = (scores.argmax(dim=1) == reference.argmax(dim=1)).sum().item()
        print(f"{name:24}{n / seconds:12.2f}{seconds / fastest:9.2f}x{largest:12.1e}{same:>9}/{n}")
        if name == "ours, float32" and (largest > TOLERANCE or same < n):
            sys.exit(f"{name}: not the scores of the loop")


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hellaswag", description=__doc__.splitlines()[0])
    default = Path(os.environ.get("GPT2_REAL_DATA", ""), "hellaswag", "hellaswag_val_first1000.jsonl")
    parser.add_argument(
        "path", type=Path, nargs="?", default=default, help="examples (default: those in GPT2_REAL_DATA)"
    )
    parser.add_argument("count", type=int, nargs="?", default=200, help="number of examples to score (default: 200)")
    arguments = parser.parse_args()
    if not arguments.path.is_file() or arguments.count < 1:
        parser.error(f"{arguments.path}, {arguments.count}: expected a file of examples, and how many to score")
    compare(arguments.path, arguments.count)


if __name__ == "__main__":
    main()
