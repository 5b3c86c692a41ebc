"""Fine-tuning GPT-2 to follow instructions: Alpaca's prompt, loss on the response only, full or LoRA.

Shapes: B batch, T time, S scored positions of a batch, C channels.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rouge_score.rouge_scorer import RougeScorer
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from gpt2.adapters import lora
from gpt2.common.errors import InputError
from gpt2.common.progress import bar
from gpt2.config.params import InstructionParams
from gpt2.generation.generate import continuations
from gpt2.generation.sampling import GREEDY
from gpt2.instruction import judge
from gpt2.instruction.alpaca import prompt
from gpt2.model.gpt import GPT, IGNORE, summed_cross_entropy
from gpt2.runtime.world import World
from gpt2.tokenizer.tokenizer import Tokenizer
from gpt2.training.optim import fine_tuning
from gpt2.training.trainer import History, Trainer, mean_loss, trainable_parameters


class Responses:
    """Instructions with their responses as samples; only the response and the `<|endoftext|>` after it are scored."""

    def __init__(self, rows: list[dict], tokenizer: Tokenizer, block_size: int, where: str):
        """Leaves out examples longer than the context, and counts them in `skipped`. Raises InputError if none is left,
        naming `where`."""
        self.pad, self.skipped = tokenizer.eot, 0
        self.samples: list[tuple[list[int], int]] = []  # token ids, and how many of them belong to the prompt
        self.rows = []
        for row in rows:
            prompt_ids = tokenizer.encode(prompt(row["instruction"], row["input"]))
            ids = [*prompt_ids, *tokenizer.encode(row["output"]), tokenizer.eot]
            if len(ids) > block_size + 1:
                self.skipped += 1
                continue
            self.samples.append((ids, len(prompt_ids)))
            self.rows.append(row)
        if not self.samples:
            raise InputError(f"{where}: contains no example that fits the model's context of {block_size} tokens")
        self.lengths = np.array([len(ids) for ids, _ in self.samples])

    def __len__(self) -> int:
        return len(self.samples)

    def batch(self, ids: np.ndarray) -> tuple[Tensor, Tensor]:
        """Inputs and targets (B, T), padded on the right. Prompt and padding have the target IGNORE."""
        inputs, targets = [], []
        for tokens, prompt_length in (self.samples[i] for i in ids):
            inputs.append(torch.tensor(tokens[:-1]))
            targets.append(torch.tensor([IGNORE] * (prompt_length - 1) + tokens[prompt_length:]))
        return (
            pad_sequence(inputs, batch_first=True, padding_value=self.pad),
            pad_sequence(targets, batch_first=True, padding_value=IGNORE),
        )

    def targets(self, ids: np.ndarray) -> int:
        """The response tokens, including the end of each response."""
        return sum(len(self.samples[i][0]) - self.samples[i][1] for i in ids)


class ResponseModel(nn.Module):
    """GPT with the same loss, but with logits only at the scored positions: most of a batch is prompt."""

    def __init__(self, model: GPT):
        super().__init__()
        self.model = model

    def forward(self, idx: Tensor, targets: Tensor) -> Tensor:
        """Maps token ids and targets (B, T) to the summed cross-entropy in nats."""
        targets = targets.flatten()
        scored = (targets != IGNORE).nonzero().squeeze(1)  # (S,); forces a GPU-host sync
        hidden = self.model.hidden(idx).flatten(0, 1).index_select(0, scored)  # (S, C)
        return summed_cross_entropy(self.model.logits(hidden, aligned=hidden.is_cuda), targets[scored])


@dataclass
class Instructed:
    """A finished fine-tuning."""

    model: GPT  # adapters merged
    adapters: dict[str, lora.LoRALinear]  # keys are names of layers; empty unless the method is LoRA
    history: History
    metrics: dict
    responses: list[dict]  # per test example: instruction, input, expected, base, tuned, scores if there is a judge


def finetune(
    model: GPT,
    tokenizer: Tokenizer,
    rows: dict[str, list[dict]],
    params: InstructionParams,
    *,
    source: Path,
    seed: int,
    scratch: Path,
    world: World,
) -> Instructed:
    """Trains `model`, or adapters in it, on `rows["train"]`; answers examples of `rows["test"]` before and after.

    `source`: the folder of the rows, for error messages. Raises InputError for malformed rows, if training diverges,
    or if the judge cannot be reached.
    """
    data = {
        split: Responses(rows[split], tokenizer, model.config.block_size, f"{source}/{split}.jsonl")
        for split in ("train", "val", "test")
    }
    examples = data["test"].rows[: params.responses]
    torch.manual_seed(seed)
    test_loss_before = _test_loss(model, data["test"], params, world)
    base = answer(model, tokenizer, examples, params)
    base_scores = judge.scores(params.judge, examples, base, seed)  # a wrong address fails here, before training
    if params.method == "lora":
        lora.add_lora(model, params.lora)
    sizes = trainable_parameters(model)
    history = Trainer(
        ResponseModel(model),
        data["train"],
        fine_tuning(params),
        world=world,
        seed=seed,
        scratch=scratch,
        evaluate=lambda model, step: {"loss": mean_loss(model, data["val"], params.micro_batch_size, world)},
        keep_best=True,
        patience=params.patience,
    ).fit()
    adapters = lora.merge(model)  # the following metrics are those of the model that is saved
    tuned = answer(model, tokenizer, examples, params)
    tuned_scores = judge.scores(params.judge, examples, tuned, seed)
    metrics = {
        "val_loss_before": history.val[0]["loss"],
        "val_loss": min(row["loss"] for row in history.val),  # of the weights that are kept
        "best_step": history.best_step,
        "test_loss_before": test_loss_before,
        "test_loss": _test_loss(model, data["test"], params, world),
        "test_examples": len(data["test"]),
        **_matches([row["output"].strip() for row in examples], base, tuned),
        **{f"skipped_{split}": part.skipped for split, part in data.items()},
        **sizes,
        **judge.metrics(params.judge, base_scores, tuned_scores),
    }
    columns = {"base": base, "tuned": tuned, "base_score": base_scores, "tuned_score": tuned_scores}
    return Instructed(model, adapters, history, metrics, _table(examples, columns))


@torch.no_grad()
def _test_loss(model: GPT, data: Responses, params: InstructionParams, world: World) -> float:
    """The loss of the test examples, without autocast. They influence neither training nor the choice of weights."""
    return mean_loss(ResponseModel(model.eval()), data, params.micro_batch_size, world)


def _matches(expected: list[str], base: list[str], tuned: list[str]) -> dict:
    """How close the answers are to the expected ones, with standard errors over the examples."""
    n = len(expected)
    before, after = rouge_l(expected, base), rouge_l(expected, tuned)
    return {
        "rouge_l_before": float(before.mean()),
        "rouge_l_before_stderr": float(np.sqrt(before.var() / max(n - 1, 1))),
        "rouge_l": float(after.mean()),
        "rouge_l_stderr": float(np.sqrt(after.var() / max(n - 1, 1))),
        "exact_match": sum(a == b for a, b in zip(expected, tuned, strict=True)) / n,
        "n": n,
    }


def _table(rows: list[dict], columns: dict[str, list]) -> list[dict]:
    """One row per example, without the columns that have no values, such as scores without a judge."""
    return [
        {
            "instruction": row["instruction"],
            "input": row["input"],
            "expected": row["output"],
            **{name: values[number] for name, values in columns.items() if values},
        }
        for number, row in enumerate(rows)
    ]


def answer(model: GPT, tokenizer: Tokenizer, rows: list[dict], params: InstructionParams) -> list[str]:
    """The model's greedy response to each row: at most `params.response_tokens` tokens, stripped of white space.

    Batches hold `params.micro_batch_size` prompts of similar length, because each prompt needs its own cache.
    """
    model.eval()
    prompts = [tokenizer.encode(prompt(row["instruction"], row["input"])) for row in rows]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    answers = [""] * len(prompts)
    for first in bar(range(0, len(order), params.micro_batch_size), desc="answers", unit="batch"):
        chunk = order[first : first + params.micro_batch_size]
        batch = [prompts[i] for i in chunk]
        responses = continuations(model, batch, params.response_tokens, GREEDY, stop=[tokenizer.eot])
        for i, ids in zip(chunk, responses, strict=True):
            answers[i] = tokenizer.decode(ids).strip()
    return answers


def rouge_l(expected: list[str], given: list[str]) -> np.ndarray:
    """ROUGE-L F1 of each pair (Lin 2004): longest common subsequence of stemmed words.

    The words of rouge_score consist of a to z and digits, so answers in other scripts score 0.
    """
    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    pairs = zip(expected, given, strict=True)
    return np.array([scorer.score(right, text)["rougeL"].fmeasure for right, text in pairs])
