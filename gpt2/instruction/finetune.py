"""Fine-tuning GPT-2 to follow instructions: Alpaca's prompt, loss on the response alone, full or LoRA.

Shapes: B batch, T time, S scored positions of a batch, C channels.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rouge_score.rouge_scorer import RougeScorer
from torch import Tensor, nn

from gpt2.adapters import lora
from gpt2.common.errors import InputError
from gpt2.common.progress import bar
from gpt2.config.params import InstructionParams
from gpt2.generation.generate import continuations
from gpt2.generation.sampling import GREEDY
from gpt2.instruction import judge
from gpt2.instruction.alpaca import prompt
from gpt2.model.gpt import GPT, summed_cross_entropy
from gpt2.runtime.world import World
from gpt2.tokenizer.tokenizer import Tokenizer
from gpt2.training.trainer import History, Trainer, mean_loss, trainable_parameters


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
        """Inputs (B, T), padded on the right, and targets (2, S): where each scored token follows, and which it is.

        Scored are the tokens of the responses and `<|endoftext|>` after each. A place is that of the token before, in
        the inputs laid end to end. The host knows them: were they looked up in a mask on a GPU, it would have to wait.
        """
        samples = [self.samples[i] for i in ids]
        inputs = [torch.tensor(tokens[:-1]) for tokens, _ in samples]
        padded = nn.utils.rnn.pad_sequence(inputs, batch_first=True, padding_value=self.pad)  # (B, T)
        T = padded.size(1)
        places = [torch.arange(start, len(tokens)) + (row * T - 1) for row, (tokens, start) in enumerate(samples)]
        targets = [torch.tensor(tokens[start:]) for tokens, start in samples]
        return padded, torch.stack((torch.cat(places), torch.cat(targets)))

    def targets(self, ids: np.ndarray) -> int:
        """Response tokens, with the end of each."""
        return sum(len(self.samples[i][0]) - self.samples[i][1] for i in ids)


class ResponseModel(nn.Module):
    """A language model whose forward gives the loss of responses: the many positions before them need no logits."""

    def __init__(self, model: GPT):
        super().__init__()
        self.model = model

    def forward(self, idx: Tensor, targets: Tensor) -> Tensor:
        """Maps token ids (B, T) and the targets (2, S) of `Responses.batch` to the summed cross-entropy in nats."""
        places, tokens = targets
        hidden = self.model.hidden(idx).flatten(0, 1).index_select(0, places)  # (S, C)
        return summed_cross_entropy(self.model.logits(hidden, aligned=hidden.is_cuda), tokens)


@dataclass
class Instructed:
    """A finished fine-tuning."""

    model: GPT  # adapters merged
    adapters: dict[str, lora.LoRALinear]  # by the layer's name, where the method is LoRA
    history: History
    metrics: dict
    responses: list[dict]  # one a test example: instruction, input, expected, base, tuned, scores where judged


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
    malformed, for training that diverges, and for a judge that cannot be asked.
    """
    data = {
        split: Responses(rows[split], tokenizer, model.config.block_size, f"{source}/{split}.jsonl")
        for split in ("train", "val", "test")
    }
    asked = data["test"].rows[: params.responses]
    torch.manual_seed(seed)
    test_loss_before = _test_loss(model, data["test"], params, world)
    base = answer(model, tokenizer, asked, params)
    base_scores = judge.scores(params.judge, asked, base, seed)  # a judge that is not there is told now
    if params.method == "lora":
        lora.add_lora(model, params.lora)
    sizes = trainable_parameters(model)

    history = Trainer(
        ResponseModel(model),
        data["train"],
        params,
        world=world,
        seed=seed,
        scratch=scratch,
        evaluate=lambda model: {"loss": mean_loss(model, data["val"], params.micro_batch_size, world)},
        keep_best=True,
        patience=params.patience,
    ).fit()
    adapters = lora.merge(model)  # from here on it is the model that is delivered
    tuned = answer(model, tokenizer, asked, params)
    tuned_scores = judge.scores(params.judge, asked, tuned, seed)
    metrics = {
        "val_loss_before": history.val[0]["loss"],
        "val_loss": min(row["loss"] for row in history.val),  # of the weights that are kept
        "best_step": history.best_step,
        "test_loss_before": test_loss_before,
        "test_loss": _test_loss(model, data["test"], params, world),
        "test_examples": len(data["test"]),
        **_matches([row["output"].strip() for row in asked], base, tuned),
        **{f"skipped_{split}": part.skipped for split, part in data.items()},
        **sizes,
        **judge.metrics(params.judge, base_scores, tuned_scores),
    }
    columns = {"base": base, "tuned": tuned, "base_score": base_scores, "tuned_score": tuned_scores}
    return Instructed(model, adapters, history, metrics, _table(asked, columns))


@torch.inference_mode()
def _test_loss(model: GPT, data: Responses, params: InstructionParams, world: World) -> float:
    """In float32, of examples that have decided nothing."""
    return mean_loss(ResponseModel(model.eval()), data, params.micro_batch_size, world)


def _matches(expected: list[str], base: list[str], tuned: list[str]) -> dict:
    """How near answers come to what was expected, with the standard errors of means over the examples."""
    n = len(expected)
    before, after = rouge_l(expected, base), rouge_l(expected, tuned)
    return {
        "rouge_l_before": float(before.mean()),
        "rouge_l_before_stderr": float(before.std() / np.sqrt(n)),
        "rouge_l": float(after.mean()),
        "rouge_l_stderr": float(after.std() / np.sqrt(n)),
        "exact_match": sum(a == b for a, b in zip(expected, tuned, strict=True)) / n,
        "n": n,
    }


def _table(rows: list[dict], columns: dict[str, list]) -> list[dict]:
    """A row an example; a column that has no values, the scores where nothing is judged, is left out."""
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
    """The model's greedy response to each row, at most `params.response_tokens` long, without the spaces around it.

    `params.micro_batch_size` prompts of like lengths go together: each needs a cache of keys and values.
    """
    model.eval()
    prompts = [tokenizer.encode(prompt(row["instruction"], row["input"])) for row in rows]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    answers = [""] * len(prompts)
    for first in bar(range(0, len(order), params.micro_batch_size), desc="answers", unit="batch"):
        own = order[first : first + params.micro_batch_size]
        batch = [prompts[i] for i in own]
        given = continuations(model, batch, params.response_tokens, GREEDY, stop=[tokenizer.eot])
        for i, ids in zip(own, given, strict=True):
            answers[i] = tokenizer.decode(ids).strip()
    return answers


def rouge_l(expected: list[str], given: list[str]) -> np.ndarray:
    """ROUGE-L F1 of each pair (Lin 2004): longest common subsequence of stemmed words.

    For rouge_score words are of a to z and digits: answers in other scripts score 0.
    """
    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    pairs = zip(expected, given, strict=True)
    return np.array([scorer.score(right, text)["rougeL"].fmeasure for right, text in pairs])
