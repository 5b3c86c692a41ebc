"""Fine-tuning GPT-2 to follow instructions: Alpaca's prompt, loss on the response alone, full or LoRA.

Shapes: B batch, T time, C channels.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rouge_score.rouge_scorer import RougeScorer
from torch import Tensor, nn

from gpt2 import lora
from gpt2.config import InstructionParams
from gpt2.errors import InputError
from gpt2.generate import generate_batch
from gpt2.model import GPT, IGNORE, summed_cross_entropy
from gpt2.runtime import World
from gpt2.tokenizer import Tokenizer
from gpt2.train import History, Trainer, mean_loss

# Taori et al. 2023, Stanford Alpaca: the wording that models of its kind are trained on.
WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
)
WITHOUT_INPUT = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:\n"
)


def prompt(instruction: str, input: str = "") -> str:
    """The text that a response follows."""
    template = WITH_INPUT if input else WITHOUT_INPUT
    return template.format(instruction=instruction, input=input)


class Responses:
    """Instructions with their responses as samples; only the response and its end are scored."""

    def __init__(self, rows: list[dict], tokenizer: Tokenizer, block_size: int, where: str):
        """Raises InputError naming `where` and the line that lacks a text. Examples longer than the context are left
        out and counted in `skipped`."""
        self.pad, self.skipped = tokenizer.eot, 0
        self.samples: list[tuple[list[int], int]] = []  # token ids, and how many of them are the prompt
        self.rows = []
        for line, row in enumerate(rows, start=1):
            for key in ("instruction", "input", "output"):
                if not isinstance(row.get(key), str) or (key != "input" and not row[key].strip()):
                    raise InputError(f"{where}, line {line}: {key} = {row.get(key)!r}: expected a text")
            start = tokenizer.encode(prompt(row["instruction"], row["input"]))
            ids = [*start, *tokenizer.encode(row["output"]), tokenizer.eot]
            if len(ids) > block_size + 1:
                self.skipped += 1
                continue
            self.samples.append((ids, len(start)))
            self.rows.append(row)
        if not self.samples:
            raise InputError(f"{where}: holds no example that fits the model's context of {block_size} tokens")
        self.lengths = np.array([len(ids) for ids, _ in self.samples])

    def __len__(self) -> int:
        return len(self.samples)

    def batch(self, ids: np.ndarray) -> tuple[Tensor, Tensor]:
        """Inputs and targets (B, T), padded on the right; targets are IGNORE but for response and `<|endoftext|>`."""
        inputs, targets = [], []
        for i in ids:
            tokens, start = self.samples[i]
            inputs.append(torch.tensor(tokens[:-1]))
            targets.append(torch.tensor([IGNORE] * (start - 1) + tokens[start:]))
        pad = nn.utils.rnn.pad_sequence
        return pad(inputs, batch_first=True, padding_value=self.pad), pad(
            targets, batch_first=True, padding_value=IGNORE
        )

    def targets(self, ids: np.ndarray) -> int:
        """Response tokens, with the end of each."""
        return sum(len(self.samples[i][0]) - self.samples[i][1] for i in ids)


class ResponseModel(nn.Module):
    """A language model whose forward gives the loss of responses: the many positions before them need no logits."""

    def __init__(self, model: GPT):
        super().__init__()
        self.model = model

    def forward(self, idx: Tensor, targets: Tensor) -> Tensor:
        """Maps token ids and targets (B, T) to the cross-entropy in nats, summed over targets other than IGNORE."""
        scored = targets != IGNORE  # (B, T)
        hidden = self.model.hidden(idx)[scored]  # (targets, C)
        return summed_cross_entropy(self.model.logits(hidden), targets[scored])


@dataclass
class Instructed:
    """A finished fine-tuning."""

    model: GPT  # with adapters where the method is LoRA
    history: History
    metrics: dict
    responses: list[dict]  # one a test example: instruction, input, expected, base, tuned


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

    `source`: the folder that the rows were read from, which messages name. Raises InputError for rows that are
    malformed, and for training that diverges.
    """
    data = {
        split: Responses(rows[split], tokenizer, model.config.block_size, f"{source}/{split}.jsonl")
        for split in ("train", "val", "test")
    }
    asked = data["test"].rows[: params.responses]
    torch.manual_seed(seed)
    base = answer(model, tokenizer, asked, params)
    if params.method == "lora":
        lora.add_lora(model, params.lora)

    def evaluate(model: nn.Module) -> dict[str, float]:
        return {"loss": mean_loss(model, data["val"], params.micro_batch_size, world)}

    history = Trainer(
        ResponseModel(model), data["train"], params, world=world, seed=seed, scratch=scratch, evaluate=evaluate
    ).fit()
    tuned = answer(model, tokenizer, asked, params)
    expected = [row["output"] for row in asked]
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    metrics = {
        "val_loss_before": history.val[0]["loss"],
        "val_loss": history.val[-1]["loss"],
        "rouge_l_before": rouge_l(expected, base),
        "rouge_l": rouge_l(expected, tuned),
        "exact_match": sum(a == b for a, b in zip(expected, tuned, strict=True)) / len(asked),
        "n": len(asked),
        "skipped": sum(part.skipped for part in data.values()),
        "trainable_parameters": trainable,
    }
    responses = [
        {"instruction": row["instruction"], "input": row["input"], "expected": row["output"], "base": b, "tuned": t}
        for row, b, t in zip(asked, base, tuned, strict=True)
    ]
    return Instructed(model, history, metrics, responses)


def answer(model: GPT, tokenizer: Tokenizer, rows: list[dict], params: InstructionParams) -> list[str]:
    """The model's greedy response to each row, at most `params.response_tokens` long."""
    model.eval()
    prompts = [tokenizer.encode(prompt(row["instruction"], row["input"])) for row in rows]
    answers = generate_batch(model, prompts, params.response_tokens, tokenizer.eot)
    return [tokenizer.decode(ids).strip() for ids in answers]


def rouge_l(expected: list[str], given: list[str]) -> float:
    """Mean ROUGE-L F1 (Lin 2004): longest common subsequence of stemmed words."""
    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    scores = [scorer.score(right, text)["rougeL"].fmeasure for right, text in zip(expected, given, strict=True)]
    return sum(scores) / len(scores)
