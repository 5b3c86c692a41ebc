"""Compares the answers of an instruction-tuned GPT-2 with those of the model that tuning started from."""

from dataclasses import dataclass

import numpy as np
from rouge_score.rouge_scorer import RougeScorer

from gpt2.common.progress import bar
from gpt2.config.params import ResponsesParams
from gpt2.generation.generate import continuations
from gpt2.generation.sampling import GREEDY
from gpt2.instruction import judge
from gpt2.instruction.alpaca import question
from gpt2.instruction.responses import ResponseModel, Responses, encode, losses
from gpt2.model.gpt import GPT
from gpt2.runtime.world import World
from gpt2.tokenizer.tokenizer import Tokenizer


@dataclass
class Evaluated:
    """The answers of both models, and how good they are."""

    metrics: dict
    responses: list[dict]  # per example: instruction, input, expected, base, tuned, scores if there is a judge


def evaluate(
    base: GPT,
    tuned: GPT,
    tokenizer: Tokenizer,
    rows: list[dict],
    params: ResponsesParams,
    *,
    source: str,
    batch_size: int,
    seed: int,
    world: World,
) -> Evaluated:
    """Answers the first `params.examples` rows that fit the context, and computes the loss of all that do, without
    autocast.

    `source`: the file of the rows, for error messages. `seed`: for the judge. Raises InputError if no row fits, or if
    the judge cannot be reached or refuses.
    """
    data = Responses(rows, tokenizer, tuned.config.block_size, source)
    examples = data.rows[: params.examples]
    questions = list(map(question, examples))
    before = answer(base, tokenizer, examples, params.max_new_tokens, batch_size)
    scores_before = judge.scores(params.judge, questions, before, seed)  # a wrong address fails here, before most work
    after = answer(tuned, tokenizer, examples, params.max_new_tokens, batch_size)
    scores_after = judge.scores(params.judge, questions, after, seed)
    loss_before, loss = (losses(ResponseModel(model), data, batch_size, world) for model in (base, tuned))
    metrics = {
        "test_loss_before": loss_before["loss"],
        "test_loss": loss["loss"],
        "test_bits_per_byte_before": loss_before["bits_per_byte"],
        "test_bits_per_byte": loss["bits_per_byte"],
        "test_examples": len(data),
        **_matches([row["output"].strip() for row in questions], before, after),
        "skipped_test": data.skipped,
        **judge.metrics(params.judge, scores_before, scores_after),
    }
    columns = {"base": before, "tuned": after, "base_score": scores_before, "tuned_score": scores_after}
    return Evaluated(metrics, _table(questions, columns))


def answer(model: GPT, tokenizer: Tokenizer, rows: list[dict], new_tokens: int, batch_size: int) -> list[str]:
    """The model's greedy last response of each row: at most `new_tokens` tokens, stripped of white space.

    Batches hold prompts of similar length, because each prompt needs its own cache.
    """
    prompts = [_prompt(row, tokenizer) for row in rows]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    answers = [""] * len(prompts)
    for first in bar(range(0, len(order), batch_size), desc="answers", unit="batch"):
        chunk = order[first : first + batch_size]
        responses = continuations(model, [prompts[i] for i in chunk], new_tokens, GREEDY, stop=[tokenizer.eot])
        for i, ids in zip(chunk, responses, strict=True):
            answers[i] = tokenizer.decode(ids).strip()
    return answers


def _prompt(row: dict, tokenizer: Tokenizer) -> list[int]:
    """The token ids before the last answer."""
    *earlier, (last, _) = encode(row, tokenizer)
    return [id for before, answer in earlier for id in before + answer] + last


def rouge_l(expected: list[str], given: list[str]) -> np.ndarray:
    """ROUGE-L F1 of each pair (Lin 2004): longest common subsequence of stemmed words.

    The words of rouge_score consist of a to z and digits, so answers in other scripts score 0.
    """
    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    pairs = zip(expected, given, strict=True)
    return np.array([scorer.score(right, text)["rougeL"].fmeasure for right, text in pairs])


def _matches(expected: list[str], before: list[str], after: list[str]) -> dict:
    """How close the answers are to the expected ones, with standard errors over the examples."""
    n = len(expected)
    rouge_before, rouge = rouge_l(expected, before), rouge_l(expected, after)
    return {
        "rouge_l_before": float(rouge_before.mean()),
        "rouge_l_before_stderr": float(np.sqrt(rouge_before.var() / max(n - 1, 1))),
        "rouge_l": float(rouge.mean()),
        "rouge_l_stderr": float(np.sqrt(rouge.var() / max(n - 1, 1))),
        "exact_match": sum(a == b for a, b in zip(expected, after, strict=True)) / n,
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
