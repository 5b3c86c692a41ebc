"""HellaSwag (Zellers et al. 2019): which of four endings continues a context? The model's answer is the likeliest one.

A protocol decides what the model reads and how `acc_norm` accounts for the lengths of endings. Under both protocols
`acc` picks the ending with the highest log-likelihood:

- completion: the context unchanged, and each ending after a space. `acc_norm` picks the highest mean per token.
- harness: lm-evaluation-harness's task `hellaswag`. The activity precedes the context, WikiHow's marks are removed, and
  `acc_norm` picks the highest log-likelihood per character of the cleaned ending.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field

from gpt2.common.errors import InputError
from gpt2.common.files import read_jsonl
from gpt2.common.progress import bar
from gpt2.config.schema import Section, parse
from gpt2.evaluation.prefix_tree import PrefixTree, build_trees, length_batches, log_likelihoods
from gpt2.model.checkpoint import load_with_tokenizer
from gpt2.model.gpt import GPT
from gpt2.runtime.precision import computing, resolve
from gpt2.runtime.world import World
from gpt2.tokenizer.tokenizer import Tokenizer

ENDINGS = 4
BATCH_TOKENS = {"cpu": 1024, "mps": 4096, "cuda": 16384}  # tokens per batch; more are not faster (mps: untried)


class Example(Section):
    """One row of the data set. Keys that scoring does not need are ignored."""

    model_config = ConfigDict(extra="ignore")

    ind: int
    ctx: Annotated[str, Field(min_length=1)]
    endings: Annotated[list[str], Field(min_length=ENDINGS, max_length=ENDINGS)]
    label: Annotated[int, Field(ge=0, lt=ENDINGS)]  # the index of the true ending
    activity_label: str
    # The whole sentences of ctx, and the sentence that the endings finish. Only the harness protocol reads them, and it
    # falls back to ctx in rows that have neither.
    ctx_a: str | None = None
    ctx_b: str | None = None


def read(path: Path) -> list[Example]:
    """Reads examples from JSON lines. Raises InputError naming the row that is malformed."""
    return validated(read_jsonl(path), str(path))


def validated(rows: list[dict], where: str) -> list[Example]:
    """Rows as examples. Raises InputError naming the file `where` and the malformed row, or if there are no rows."""
    if not rows:
        raise InputError(f"{where}: no examples: expected at least one")
    return [parse(Example, row, f"{where}, row {number}") for number, row in enumerate(rows, start=1)]


# --- protocols -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prompt:
    """An example as a protocol formats it. The context and each continuation are tokenized separately."""

    context: str
    continuations: list[str]
    characters: list[int]  # the length of each ending


@dataclass(frozen=True)
class Protocol:
    """How an example is formatted, and what `acc_norm` divides the log-likelihood of an ending by."""

    prefix: str  # starts the names of its metrics
    unit: str  # tokens or characters
    format: Callable[[Example], Prompt]


def _completion(example: Example) -> Prompt:
    return Prompt(example.ctx, [f" {ending}" for ending in example.endings], [len(e) for e in example.endings])


def _harness(example: Example) -> Prompt:
    """Formats a row as lm_eval/tasks/hellaswag/utils.py and lm_eval/api/model.py do.

    The harness tokenizes context and continuation as one text and cuts off the context's tokens, after it has moved
    white space at the context's end to the continuation. GPT-2's pattern always splits before white space, so that
    tokenizing them separately gives the same tokens.
    """
    ctx_a = example.ctx if example.ctx_a is None else example.ctx_a
    query = _cleaned(f"{example.activity_label}: {ctx_a} {(example.ctx_b or '').capitalize()}")
    context, endings = query.rstrip(), [_cleaned(ending) for ending in example.endings]
    return Prompt(context, [f"{query[len(context) :]} {e}" for e in endings], [len(e) for e in endings])


def _cleaned(text: str) -> str:
    """Removes WikiHow's marks in brackets, in the same order of steps as the harness."""
    return re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". ")).replace("  ", " ")


METRICS = ("acc", "acc_stderr", "acc_norm", "acc_norm_stderr", "n", "truncated")
PROTOCOLS = {
    "completion": Protocol(prefix="", unit="tokens", format=_completion),
    "harness": Protocol(prefix="harness_", unit="characters", format=_harness),
}


# --- scores --------------------------------------------------------------------------------------------------------


def evaluate(
    directory: Path, examples: list[Example], protocols: Sequence[str], *, precision: str, world: World
) -> tuple[dict, list[dict]]:
    """Scores examples with the model of a checkpoint directory: returns metrics, and one row per example.

    Raises InputError if the checkpoint is missing or malformed, or if the hardware lacks the precision.
    """
    model, tokenizer = load_with_tokenizer(directory, world.device)
    metrics: dict = {}
    rows: list[dict] = [{} for _ in examples]
    precision = resolve(precision, world.device)
    with computing(precision, world.device):  # one context for all batches: autocast converts the weights once
        for protocol in protocols:
            protocol_metrics, results = score(model, tokenizer, examples, protocol, world)
            metrics |= protocol_metrics
            rows = [row | result for row, result in zip(rows, results, strict=True)]
    return metrics, rows


def score(
    model: GPT, tokenizer: Tokenizer, examples: list[Example], protocol: str, world: World
) -> tuple[dict, list[dict]]:
    """Scores `examples` under a protocol; the processes of `world` share the work.

    Returns the metrics `acc`, `acc_norm`, their standard errors sqrt(p (1 - p) / (n - 1)), as lm-evaluation-harness
    computes them, `n`, and `truncated`, the number of examples that did not fit the model's context and were cut on
    the left. Also returns one row per example with the prediction under both rules, and the log-likelihood in
    nats and the length of each ending. All names have the protocol's prefix. Every process returns the same.
    """
    rules = PROTOCOLS[protocol]
    prompts = [rules.format(example) for example in examples]
    trees = [_trees(tokenizer, prompt, model.config.block_size) for prompt in prompts]  # per example
    scores = iter(_log_likelihoods(model, [tree for group in trees for tree in group], protocol, world))
    rows = []
    for example, prompt, group in zip(examples, prompts, trees, strict=True):
        sums = [value for _ in group for value in next(scores)]
        tokens = [len(ending) for tree in group for ending in tree.endings]
        rows.append(_row(example, rules, sums, tokens if rules.unit == "tokens" else prompt.characters))
    truncated = sum(len(group) > 1 for group in trees)
    return accuracies(rows, rules.prefix) | {f"{rules.prefix}truncated": truncated}, rows


def _trees(tokenizer: Tokenizer, prompt: Prompt, block_size: int) -> list[PrefixTree]:
    context = tokenizer.encode(prompt.context) or [tokenizer.eot]
    return build_trees(context, [tokenizer.encode(text) for text in prompt.continuations], block_size)


def _log_likelihoods(model: GPT, trees: list[PrefixTree], protocol: str, world: World) -> list[list[float]]:
    """The log-likelihoods of each tree's endings. Each process takes every `world.size`-th batch."""
    batches = length_batches([len(tree) for tree in trees], BATCH_TOKENS[world.device.type])
    scores: dict[int, list[float]] = {}
    look = {"desc": f"hellaswag, {protocol}", "unit": "batch", "leave": None, "disable": not world.main}
    for batch in bar(batches[world.rank :: world.size], **look):
        scores |= zip(batch, log_likelihoods(model, [trees[i] for i in batch]), strict=True)
    for part in world.gather_objects(scores):
        scores |= part
    return [scores[i] for i in range(len(trees))]


def _row(example: Example, protocol: Protocol, sums: list[float], lengths: list[int]) -> dict:
    """One row of results. Ties go to the first ending.

    An ending that is empty after cleaning has no mean, and `acc_norm` never picks it, as in the harness.
    """
    if not all(map(math.isfinite, sums)):
        raise InputError(f"example {example.ind}: log-likelihoods {sums} are not finite")
    sums = [round(value, 4) for value in sums]  # so that the predictions follow from the numbers in the row
    means = [value / length if length else -math.inf for value, length in zip(sums, lengths, strict=True)]
    results = {
        "prediction": sums.index(max(sums)),
        "prediction_norm": means.index(max(means)),
        "log_likelihoods": sums,
        protocol.unit: lengths,
    }
    return {"ind": example.ind, "label": example.label} | {f"{protocol.prefix}{k}": v for k, v in results.items()}


def accuracies(rows: list[dict], prefix: str = "") -> dict:
    """`acc`, `acc_norm`, their standard errors and `n` from one row of results per example."""
    return {
        **_accuracy(f"{prefix}acc", [row[f"{prefix}prediction"] == row["label"] for row in rows]),
        **_accuracy(f"{prefix}acc_norm", [row[f"{prefix}prediction_norm"] == row["label"] for row in rows]),
        f"{prefix}n": len(rows),
    }


def _accuracy(name: str, correct: list[bool]) -> dict:
    """The share of correct answers and its standard error, which is 0 for a single example."""
    share = sum(correct) / len(correct)
    return {name: share, f"{name}_stderr": math.sqrt(share * (1 - share) / max(len(correct) - 1, 1))}
