"""HellaSwag (Zellers et al. 2019): which of four endings follows the context? The likeliest under the model.

The completion protocol: each ending, after a space, is scored by its log-likelihood given the context. `acc` takes the
ending of the highest sum, `acc_norm` that of the highest mean a token.

Shapes: B rows (four an example), T time (tokens), C channels, V vocabulary, N scored tokens in a batch.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from pydantic import ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from gpt2.errors import InputError
from gpt2.files import read_jsonl
from gpt2.model import GPT
from gpt2.progress import bar
from gpt2.section import Section, parse
from gpt2.tokenizer import Tokenizer

ENDINGS = 4


class Example(Section):
    """One row of the data set; keys that scoring does not need are left out."""

    model_config = ConfigDict(extra="ignore")

    ind: int
    ctx: Annotated[str, Field(min_length=1)]
    endings: Annotated[list[str], Field(min_length=ENDINGS, max_length=ENDINGS)]
    label: Annotated[int, Field(ge=0, lt=ENDINGS)]  # which ending is the true one


@dataclass(frozen=True)
class Row:
    """Context and one ending in tokens, of which the last `n_scored` are scored."""

    tokens: list[int]
    n_scored: int


def read(path: Path) -> list[Example]:
    """Reads examples from JSON lines. Raises InputError naming the line that is malformed."""
    examples = [parse(Example, row, f"{path}, line {line}") for line, row in enumerate(read_jsonl(path), start=1)]
    if not examples:
        raise InputError(f"{path}: no examples: expected at least one")
    return examples


def score(model: GPT, tokenizer: Tokenizer, examples: list[Example], batch_size: int) -> tuple[dict, list[dict]]:
    """Scores `examples`, `batch_size` at a time, in the model's precision.

    Returns the metrics `acc`, `acc_norm`, their standard errors sqrt(p (1 - p) / (n - 1)), as lm-evaluation-harness
    computes them, `n` and `truncated`: examples of which a row was longer than the model's context and lost tokens
    from its left. And for each example its prediction under both rules and the log-likelihood in nats of each ending.
    """
    encoded = [_rows(tokenizer, example, model.config.block_size) for example in examples]
    longest_first = sorted(range(len(examples)), key=lambda i: -max(len(row.tokens) for row in encoded[i][0]))
    sums: dict[int, list[float]] = {}
    with bar(total=len(examples), desc="hellaswag", unit="example") as progress:
        for first in range(0, len(examples), batch_size):
            batch = longest_first[first : first + batch_size]  # of like lengths, so that little is padding
            rows = [row for i in batch for row in encoded[i][0]]
            sums.update(zip(batch, log_likelihoods(model, rows).view(-1, ENDINGS).tolist(), strict=True))
            progress.update(len(batch))
    results = [_result(example, encoded[i][0], sums[i]) for i, example in enumerate(examples)]
    metrics = {
        **_accuracy("acc", [result["prediction"] == result["label"] for result in results]),
        **_accuracy("acc_norm", [result["prediction_norm"] == result["label"] for result in results]),
        "n": len(examples),
        "truncated": sum(cut for _, cut in encoded),
    }
    return metrics, results


def _rows(tokenizer: Tokenizer, example: Example, block_size: int) -> tuple[list[Row], bool]:
    """The four rows of an example, and whether one had to be cut: the last token is never read, only predicted."""
    context = tokenizer.encode(example.ctx)
    endings = [tokenizer.encode(" " + ending) for ending in example.endings]
    rows = [Row((context + ending)[-block_size - 1 :], min(len(ending), block_size)) for ending in endings]
    return rows, any(len(context) + len(ending) > block_size + 1 for ending in endings)


@torch.inference_mode()
def log_likelihoods(model: GPT, rows: list[Row]) -> Tensor:
    """The log-likelihood of each row's scored tokens given all before them: (B,), float64.

    Padding stands on the right, where causal attention keeps it from being seen, and only the hidden states before
    scored tokens are multiplied with the vocabulary, which is most of the work for a small model.
    """
    assert not model.training
    device = model.wte.weight.device
    tokens = pad_sequence([torch.tensor(row.tokens, device=device) for row in rows], batch_first=True)  # (B, T)
    ends = torch.tensor([len(row.tokens) for row in rows], device=device)[:, None]  # (B, 1)
    starts = ends - torch.tensor([row.n_scored for row in rows], device=device)[:, None]
    column = torch.arange(1, tokens.size(1), device=device)
    scored = (column >= starts) & (column < ends)  # (B, T - 1), which targets count
    hidden = model.hidden(tokens[:, :-1])[scored]  # (N, C)
    losses = F.cross_entropy(model.logits(hidden), tokens[:, 1:][scored], reduction="none")  # (N,)
    owner = scored.nonzero()[:, 0]  # (N,), the row of each
    return -torch.zeros(len(rows), dtype=torch.float64, device=device).index_add(0, owner, losses.double())


def _result(example: Example, rows: list[Row], sums: list[float]) -> dict:
    """What is kept of one example; the first of equally likely endings is the prediction."""
    means = [total / row.n_scored for total, row in zip(sums, rows, strict=True)]
    return {
        "ind": example.ind,
        "label": example.label,
        "prediction": sums.index(max(sums)),
        "prediction_norm": means.index(max(means)),
        "log_likelihoods": [round(total, 4) for total in sums],
        "tokens": [row.n_scored for row in rows],
    }


def _accuracy(name: str, correct: list[bool]) -> dict:
    """The share that is correct and its standard error; one example alone has no spread and gets 0."""
    share = sum(correct) / len(correct)
    return {name: share, f"{name}_stderr": math.sqrt(share * (1 - share) / max(len(correct) - 1, 1))}
