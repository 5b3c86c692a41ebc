"""The evaluation of answers: how close they come to the expected ones, and what a judge says of them."""

import copy
import re

import numpy as np
import pytest
import torch

from gpt2.common.errors import InputError
from gpt2.config.params import ResponsesParams
from gpt2.generation.generate import continuations
from gpt2.generation.sampling import GREEDY
from gpt2.instruction.alpaca import prompt
from gpt2.instruction.evaluate import Evaluated, answer, evaluate, rouge_l
from gpt2.instruction.responses import ResponseModel, Responses, losses
from gpt2.model.gpt import GPT
from tests.instruction.rows import BLOCK, LONG, ROWS, TOKENIZER
from tests.loopback_judge import judging
from tests.small import ALONE, small_model

SPACED = [{**row, "output": f" {row['output']}\n"} for row in ROWS]  # answers are stripped


@pytest.fixture(scope="module")
def models() -> tuple[GPT, GPT]:
    """A small model, and one that learned the answers of SPACED by heart."""
    base = small_model(vocab_size=257, block_size=BLOCK, dropout=0.0)
    tuned = copy.deepcopy(base)
    optimizer, samples = torch.optim.AdamW(tuned.parameters(), lr=0.01), Responses(SPACED, TOKENIZER, BLOCK, "")
    for _ in range(60):
        ResponseModel(tuned)(*samples.batch(np.arange(2))).div(30).backward()
        optimizer.step()
        optimizer.zero_grad()
    return base, tuned


def evaluated(models: tuple[GPT, GPT], **changes) -> Evaluated:
    params = ResponsesParams(**{"examples": 2, "max_new_tokens": 30, **changes})
    where = {"source": "test.jsonl", "batch_size": 4, "seed": 0, "world": ALONE}
    return evaluate(*models, TOKENIZER, [LONG, *SPACED], params, **where)


def test_the_tuned_model_answers_as_expected(models):
    done = evaluated(models)
    assert done.metrics["exact_match"] == done.metrics["rouge_l"] == 1.0 > done.metrics["rouge_l_before"]
    assert [row["tuned"] for row in done.responses] == [row["output"] for row in ROWS]
    assert [row["base"] for row in done.responses] == answer(models[0], TOKENIZER, SPACED, 30, batch_size=1)
    assert all(row.keys() == {"instruction", "input", "expected", "base", "tuned"} for row in done.responses)
    assert (done.metrics["n"], done.metrics["test_examples"], done.metrics["skipped_test"]) == (2, 2, 1)
    data = Responses(SPACED, TOKENIZER, BLOCK, "test.jsonl")
    for model, suffix in zip(models, ("_before", ""), strict=True):
        expected = losses(ResponseModel(model), data, 1, ALONE)
        found = {name: done.metrics[f"test_{name}{suffix}"] for name in expected}
        assert found == pytest.approx(expected, rel=1e-5)


def test_a_conversation_is_answered_after_its_turns(models):
    """The learned instruction comes second. Report and judge see the turns before as one instruction."""
    first = {"role": "user", "content": "Repeat."}, {"role": "assistant", "content": "Repeat what?"}
    last = {"role": "user", "content": "abc"}, {"role": "assistant", "content": "abc"}
    row = {"messages": [*first, *last]}
    params = ResponsesParams(examples=2, max_new_tokens=3)
    done = evaluate(*models, TOKENIZER, [row], params, source="", batch_size=4, seed=0, world=ALONE)
    (found,) = done.responses
    asked = "user: Repeat.\n\nassistant: Repeat what?\n\nuser: abc"
    assert found["instruction"] == asked and found["input"] == "" and found["expected"] == "abc"
    before = f"{prompt('Repeat.')}Repeat what?<|endoftext|>\n\n### Instruction:\nabc\n\n### Response:\n"
    ids = continuations(models[1], [TOKENIZER.encode_prompt(before)], 3, GREEDY, stop=[TOKENIZER.eot])
    assert found["tuned"] == TOKENIZER.decode(ids[0]).strip()


def test_the_number_of_answers_and_their_length_are_limited(models):
    done = evaluated(models, examples=1, max_new_tokens=2)
    assert [row["tuned"] for row in done.responses] == ["a"] and done.metrics["n"] == 1  # a space and a letter
    assert done.metrics["test_examples"] == 2


def test_models_are_evaluated_the_same_each_time(models):
    assert evaluated(models) == evaluated(models)


def test_rouge_l_by_hand():
    expected, given = ["the cat sat", "the cat sat", "a"], ["the cat sat", "the dog sat", "b"]
    assert rouge_l(expected, given).tolist() == pytest.approx([1, 2 / 3, 0])


def test_a_judge_scores_the_answers_of_both_models(models):
    with judging("10", "20", "80", "no idea") as (judge, script):
        done = evaluated(models, judge=judge)
    assert [(row["base_score"], row["tuned_score"]) for row in done.responses] == [(10, 80), (20, None)]
    assert (done.metrics["judge_score_before"], done.metrics["judge_score"]) == (10, 80)
    texts = [body["messages"][0]["content"] for body in script.asked]
    for row, before, after in zip(done.responses, texts[:2], texts[2:], strict=True):
        assert row["base"] in before and row["tuned"] in after and row["expected"] in before


def test_a_judge_that_refuses_is_asked_once(models):
    with judging(401) as (judge, script), pytest.raises(InputError, match=re.escape("responses.judge.url = ")):
        evaluated(models, judge=judge)
    assert len(script.asked) == 1
