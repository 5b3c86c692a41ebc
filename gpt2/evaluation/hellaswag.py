"""HellaSwag (Zellers et al. 2019): which of four endings follows the context? The likeliest under the model.

Two protocols say what the model reads and how `acc_norm` weighs endings of different lengths; `acc` takes the ending of
the highest log-likelihood under both:

- completion: the context as it stands, and each ending after a space; `acc_norm` takes the highest mean a token.
- harness: what lm-evaluation-harness does in its task `hellaswag`: the activity before the context, texts cleaned of
  WikiHow's marks, and `acc_norm` the highest log-likelihood a character of the cleaned ending.
"""

import json
import math
import re
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from pydantic import ConfigDict, Field, ValidationInfo, field_validator

from gpt2.common.errors import InputError
from gpt2.common.files import read_jsonl, replacing, sha256
from gpt2.common.progress import bar
from gpt2.config.schema import Section, parse
from gpt2.evaluation.prefix_tree import Tree, batched, grow, log_likelihoods
from gpt2.model.checkpoint import load_with_tokenizer
from gpt2.model.gpt import GPT
from gpt2.runtime.device import autocast_dtype
from gpt2.runtime.world import World
from gpt2.tokenizer.tokenizer import Tokenizer

ENDINGS = 4


class Example(Section):
    """One row of the data set; keys that scoring does not need are left out."""

    model_config = ConfigDict(extra="ignore")

    ind: int
    ctx: Annotated[str, Field(min_length=1)]
    endings: Annotated[list[str], Field(min_length=ENDINGS, max_length=ENDINGS)]
    label: Annotated[int, Field(ge=0, lt=ENDINGS)]  # which ending is the true one
    activity_label: str
    # Whole sentences of ctx, and the sentence that the endings end: read by harness alone, which takes ctx for ctx_a
    # where a row has neither.
    ctx_a: str | None = None
    ctx_b: Annotated[str | None, Field(validate_default=True)] = None

    @field_validator("ctx_b")
    @classmethod
    def _stands_with_ctx_a(cls, ctx_b: str | None, info: ValidationInfo) -> str | None:
        if (info.data.get("ctx_a") is None) != (ctx_b is None):
            raise ValueError("must stand beside ctx_a, or neither be there")
        return ctx_b


def read(path: Path) -> list[Example]:
    """Reads examples from JSON lines. Raises InputError naming the line that is malformed."""
    examples = [parse(Example, row, f"{path}, line {line}") for line, row in enumerate(read_jsonl(path), start=1)]
    if not examples:
        raise InputError(f"{path}: no examples: expected at least one")
    return examples


# --- protocols -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Question:
    """An example as a protocol puts it: the texts that are encoded, each by itself."""

    context: str
    continuations: list[str]
    characters: list[int]  # of the endings


@dataclass(frozen=True)
class Protocol:
    """How examples are put to a model, and what `acc_norm` divides the log-likelihood of an ending by."""

    prefix: str  # of its figures' names
    unit: str  # tokens or characters
    ask: Callable[[Example], Question]


def _completion(example: Example) -> Question:
    return Question(example.ctx, [f" {ending}" for ending in example.endings], [len(e) for e in example.endings])


def _harness(example: Example) -> Question:
    """What lm_eval/tasks/hellaswag/utils.py makes of a row, and lm_eval/api/model.py of context and continuation.

    The harness encodes them as one text and cuts off the context's tokens. White space at the context's end goes to the
    continuation there, and GPT-2's pattern always cuts before white space: so encoded apart they give the same tokens.
    """
    ctx_a = example.ctx if example.ctx_a is None else example.ctx_a
    query = _cleaned(f"{example.activity_label}: {ctx_a} {(example.ctx_b or '').capitalize()}")
    context, endings = query.rstrip(), [_cleaned(ending) for ending in example.endings]
    return Question(context, [f"{query[len(context) :]} {e}" for e in endings], [len(e) for e in endings])


def _cleaned(text: str) -> str:
    """Without WikiHow's marks in brackets, in the order of steps of the harness."""
    return re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". ")).replace("  ", " ")


METRICS = ("acc", "acc_stderr", "acc_norm", "acc_norm_stderr", "n", "truncated")
PROTOCOLS = {
    "completion": Protocol(prefix="", unit="tokens", ask=_completion),
    "harness": Protocol(prefix="harness_", unit="characters", ask=_harness),
}


# --- a whole run ---------------------------------------------------------------------------------------------------


def evaluate(
    directory: Path,
    data: Path,
    protocols: Sequence[str],
    *,
    batch_tokens: int,
    precision: str,
    world: World,
    partial: Path | None,
) -> tuple[dict, list[dict]]:
    """Scores the examples of a file with the model of a checkpoint directory: metrics and a row an example.

    With `partial` a run that is killed goes on from that file, if directory, data and settings are the same.
    Raises InputError where something is missing or malformed, or the hardware lacks the precision.
    """
    examples = read(data)
    model, tokenizer = load_with_tokenizer(directory, str(world.device))
    dtype = autocast_dtype(precision, world.device)
    if dtype is None:
        torch.set_float32_matmul_precision("highest")  # not the TF32 of training
    kept = None
    if partial and world.main:
        inputs = [sha256(directory / "config.json"), sha256(directory / "model.safetensors"), tokenizer.fingerprint]
        kept = Kept(partial, of=" ".join([*inputs, sha256(data), str(batch_tokens), str(dtype)]))
    metrics: dict = {}
    rows: list[dict] = [{} for _ in examples]
    # One context for all batches: autocast converts the weights once.
    with torch.autocast(world.device.type, dtype) if dtype else nullcontext():
        for protocol in protocols:
            figures, results = score(model, tokenizer, examples, protocol, batch_tokens, world, kept)
            metrics |= figures
            rows = [row | result for row, result in zip(rows, results, strict=True)]
    return metrics, rows


# --- scores --------------------------------------------------------------------------------------------------------


class KeptBatch(Section):
    """A line of what `Kept` writes: the log-likelihoods of the endings of each tree of a batch, by its number."""

    protocol: str
    batch: int
    log_likelihoods: list[list[float]]


class Kept:
    """Scores of batches, written down as they come, so that a run which is killed goes on where it was."""

    def __init__(self, path: Path, of: str):
        """`of` identifies what is scored and how: what the file keeps of anything else is dropped."""
        self.path = path
        first = json.dumps({"of": of}).encode() + b"\n"
        path.parent.mkdir(parents=True, exist_ok=True)
        found = path.read_bytes() if path.exists() else b""
        whole = found[: found.rfind(b"\n") + 1]  # a killed process may have left part of a line
        whole = whole if whole.startswith(first) else first
        try:
            self.rows = [KeptBatch.model_validate(json.loads(line)) for line in whole.splitlines()[1:]]
        except (ValueError, RecursionError):  # damaged, or not written by this class
            whole, self.rows = first, []
        if whole != found:
            with replacing(path) as temporary:
                temporary.write_bytes(whole)

    def scores(self, protocol: str) -> dict[int, list[list[float]]]:
        """By number of the batch, the log-likelihoods of its trees' endings."""
        return {row.batch: row.log_likelihoods for row in self.rows if row.protocol == protocol}

    def add(self, protocol: str, batch: int, scores: list[list[float]]) -> None:
        """Keeps a batch."""
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps({"protocol": protocol, "batch": batch, "log_likelihoods": scores}) + "\n")
        except OSError as error:  # which does not name the file where there is no room
            raise OSError(error.errno, error.strerror, str(self.path)) from None


def score(
    model: GPT,
    tokenizer: Tokenizer,
    examples: list[Example],
    protocol: str,
    batch_tokens: int,
    world: World,
    kept: Kept | None = None,
) -> tuple[dict, list[dict]]:
    """Scores `examples` under a protocol in batches of at most `batch_tokens` tokens, which the processes share.

    Returns the metrics `acc`, `acc_norm`, their standard errors sqrt(p (1 - p) / (n - 1)), as lm-evaluation-harness
    computes them, `n` and `truncated`: examples of which a row was longer than the model's context and lost tokens
    from its left. And for each example its prediction under both rules, the log-likelihood in nats of each ending and
    its length. All have the protocol's prefix. Every process gets the same, whatever their number.
    """
    asked = [PROTOCOLS[protocol].ask(example) for example in examples]
    grown = [_grow(tokenizer, question, model.config.block_size) for question in asked]
    trees = [tree for own in grown for tree in own]
    totals = iter(_totals(model, trees, protocol, batch_tokens, world, kept))
    results = []
    for example, question, own in zip(examples, asked, grown, strict=True):
        sums = [total for _ in own for total in next(totals)]
        tokens = [len(ending) for tree in own for ending in tree.endings]
        results.append(_result(example, PROTOCOLS[protocol], sums, tokens, question.characters))
    return _metrics(results, PROTOCOLS[protocol].prefix, truncated=sum(len(own) > 1 for own in grown)), results


def _grow(tokenizer: Tokenizer, question: Question, block_size: int) -> list[Tree]:
    context = tokenizer.encode(question.context) or [tokenizer.eot]
    return grow(context, [tokenizer.encode(text) for text in question.continuations], block_size)


def _totals(
    model: GPT, trees: list[Tree], protocol: str, batch_tokens: int, world: World, kept: Kept | None
) -> list[list[float]]:
    """The log-likelihoods of every tree's endings. The processes take turns of a batch each; the main one keeps them.

    Batches are made of all trees, whatever is kept, so that a resumed run computes what an unbroken one would.
    """
    batches = batched([len(tree) for tree in trees], batch_tokens)
    sizes = [[len(trees[i].endings) for i in batch] for batch in batches]
    found = kept.scores(protocol) if kept else {}
    fitting = {n: own for n, own in found.items() if 0 <= n < len(sizes) and [len(s) for s in own] == sizes[n]}
    done = world.from_main(fitting)
    todo = [number for number in range(len(batches)) if number not in done]
    so_far = sum(len(batches[number]) for number in done)
    look = {"desc": f"hellaswag, {protocol}", "unit": "context", "leave": None, "disable": not world.main}
    with bar(total=len(trees), initial=so_far, **look) as progress:
        for first in range(0, len(todo), world.size):
            turn = todo[first : first + world.size]
            own = [trees[i] for number in turn[world.rank : world.rank + 1] for i in batches[number]]
            shares = world.gather_objects(log_likelihoods(model, own) if own else [])
            for number, scores in zip(turn, shares, strict=False):  # in the last turn some may have nothing to do
                done[number] = scores
                if kept and world.main:
                    kept.add(protocol, number, scores)
                progress.update(len(scores))
    by_tree = {i: scores for number in done for i, scores in zip(batches[number], done[number], strict=True)}
    return [by_tree[i] for i in range(len(trees))]


def _result(example: Example, protocol: Protocol, sums: list[float], tokens: list[int], characters: list[int]) -> dict:
    """What is kept of one example; the first of equally likely endings is the prediction.

    An ending that cleaning left empty has no mean: it is never picked by it, in the harness neither.
    """
    if not all(map(math.isfinite, sums)):
        raise InputError(f"example {example.ind}: the model finds log-likelihoods {sums}, expected finite ones")
    sums = [round(total, 4) for total in sums]  # so that predictions follow from what is written
    lengths = tokens if protocol.unit == "tokens" else characters
    means = [total / length if length else -math.inf for total, length in zip(sums, lengths, strict=True)]
    figures = {
        "prediction": sums.index(max(sums)),
        "prediction_norm": means.index(max(means)),
        "log_likelihoods": sums,
        protocol.unit: lengths,
    }
    return {"ind": example.ind, "label": example.label} | {f"{protocol.prefix}{k}": v for k, v in figures.items()}


def _metrics(results: list[dict], prefix: str, truncated: int) -> dict:
    return {
        **_accuracy(f"{prefix}acc", [row[f"{prefix}prediction"] == row["label"] for row in results]),
        **_accuracy(f"{prefix}acc_norm", [row[f"{prefix}prediction_norm"] == row["label"] for row in results]),
        f"{prefix}n": len(results),
        f"{prefix}truncated": truncated,
    }


def _accuracy(name: str, correct: list[bool]) -> dict:
    """The share that is correct and its standard error; one example alone has no spread and gets 0."""
    share = sum(correct) / len(correct)
    return {name: share, f"{name}_stderr": math.sqrt(share * (1 - share) / max(len(correct) - 1, 1))}
