"""HellaSwag scores against transformers, one row at a time in float64."""

import json
import math

import numpy as np
import pytest
import torch
from transformers import GPT2LMHeadModel

from gpt2 import hellaswag, weights
from gpt2.bpe import train_bpe
from gpt2.errors import InputError
from gpt2.files import write_jsonl
from gpt2.model import GPT
from gpt2.tokenizer import Tokenizer
from tests.small import small_model

TEXT = "a man sits on the roof and starts to pull up tiles while two dogs watch him from below"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(train_bpe([TEXT + 9 * " dogs"], 280))


@pytest.fixture(scope="module")
def model(tokenizer) -> GPT:
    return small_model(block_size=64, vocab_size=tokenizer.vocab_size).double()


@pytest.fixture(scope="module")
def examples(tmp_path_factory) -> list[hellaswag.Example]:
    """Contexts and endings of very different lengths; two rows in five are longer than the model's context."""
    random = np.random.default_rng(0)

    def text(most: int) -> str:
        return " ".join(random.choice(TEXT.split(), size=random.integers(1, most)))

    path = tmp_path_factory.mktemp("hellaswag") / "val.jsonl"
    write_jsonl(
        path, ({**row(), "ind": n, "ctx": text(25), "endings": [text(12) for _ in range(4)]} for n in range(30))
    )
    return hellaswag.read(path)


def row() -> dict:
    return {
        "ind": 7,
        "activity_label": "Roof",
        "ctx": "a man",
        "endings": ["a", "b", "c", "d"],
        "label": 2,
        "split": "val",
    }


@pytest.fixture(scope="module")
def scored(model, tokenizer, examples) -> tuple[dict, list[dict]]:
    return hellaswag.score(model, tokenizer, examples, batch_size=4)


def test_scores_equal_transformers_row_by_row(model, tokenizer, examples, scored, tmp_path):
    weights.save(model, tmp_path)
    theirs = GPT2LMHeadModel.from_pretrained(tmp_path).double().eval()
    for example, result in zip(examples, scored[1], strict=True):
        expected, means = [], []
        for ending in example.endings:
            tail = tokenizer.encode(" " + ending)
            ids = torch.tensor([(tokenizer.encode(example.ctx) + tail)[-65:]])
            with torch.no_grad():
                log_probabilities = theirs(ids[:, :-1]).logits[0].log_softmax(dim=1)
            expected.append(log_probabilities.gather(1, ids[0, 1:, None])[-len(tail) :].sum().item())
            means.append(expected[-1] / len(tail))
        assert result["log_likelihoods"] == pytest.approx(expected, abs=1e-4)
        assert result["prediction"] == np.argmax(expected)
        assert result["prediction_norm"] == np.argmax(means)


def test_metrics_follow_from_the_results(scored, examples):
    metrics, results = scored
    assert list(metrics) == ["acc", "acc_stderr", "acc_norm", "acc_norm_stderr", "n", "truncated"]
    for name, key in (("acc", "prediction"), ("acc_norm", "prediction_norm")):
        correct = [float(result[key] == example.label) for result, example in zip(results, examples, strict=True)]
        assert metrics[name] == np.mean(correct)
        assert metrics[f"{name}_stderr"] == pytest.approx(np.std(correct, ddof=1) / math.sqrt(30))
    assert metrics["n"] == 30
    assert [result["ind"] for result in results] == list(range(30))


@pytest.mark.parametrize("batch_size", [1, 7, 30])
def test_padding_and_order_do_not_change_scores(model, tokenizer, examples, scored, batch_size):
    metrics, results = hellaswag.score(model, tokenizer, examples[::-1], batch_size)
    assert metrics == scored[0]
    assert results[::-1] == scored[1]


def test_long_rows_lose_their_beginning_and_are_counted(model, tokenizer, examples, scored):
    def truncated(block_size: int) -> int:
        lengths = [
            len(tokenizer.encode(example.ctx)) + max(len(tokenizer.encode(" " + ending)) for ending in example.endings)
            for example in examples
        ]
        return sum(length > block_size + 1 for length in lengths)

    assert 0 < truncated(64) < 30
    assert scored[0]["truncated"] == truncated(64)
    tiny = small_model(block_size=4, vocab_size=tokenizer.vocab_size)
    metrics, results = hellaswag.score(tiny, tokenizer, examples, batch_size=4)
    assert metrics["truncated"] == truncated(4)
    assert max(max(result["tokens"]) for result in results) == 4
    assert all(math.isfinite(score) for result in results for score in result["log_likelihoods"])


def test_a_sure_model_is_right(tokenizer):
    """A model that gives one token all the probability finds the endings that consist of it."""
    model = small_model(block_size=64, vocab_size=tokenizer.vocab_size)
    (token,) = tokenizer.encode(" dogs")
    with torch.no_grad():
        model.ln_f.weight.zero_()
        model.ln_f.bias.copy_(100 * model.wte.weight[token])
    endings = ["a man", "dogs dogs", "the roof", "watch"]
    example = hellaswag.Example.model_validate({**row(), "endings": endings, "label": 1})
    metrics, (result,) = hellaswag.score(model, tokenizer, [example], batch_size=16)
    assert (metrics["acc"], metrics["acc_norm"], metrics["acc_stderr"]) == (1.0, 1.0, 0.0)
    assert result["tokens"][1] == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": 4}, "label = 4"),
        ({"label": "2"}, "label = '2'"),
        ({"label": None}, "label = None"),
        ({"endings": ["a", "b", "c"]}, "endings = "),
        ({"endings": ["a", "b", "c", 4]}, r"endings.3 = 4"),
        ({"ctx": ""}, "ctx = ''"),
    ],
    ids=str,
)
def test_a_malformed_example_is_named(tmp_path, change, message):
    path = tmp_path / "val.jsonl"
    write_jsonl(path, [row(), {**row(), **change}])
    with pytest.raises(InputError, match=message) as caught:
        hellaswag.read(path)
    assert str(caught.value).startswith(f"{path}, line 2: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["ind", "ctx", "endings", "label"])
def test_a_missing_key_is_named(tmp_path, key):
    incomplete = row()
    del incomplete[key]
    path = tmp_path / "val.jsonl"
    path.write_text(json.dumps(incomplete) + "\n")
    with pytest.raises(InputError, match=f"line 1: {key} is missing"):
        hellaswag.read(path)


def test_an_empty_file_is_refused(tmp_path):
    path = tmp_path / "val.jsonl"
    path.touch()
    with pytest.raises(InputError, match="no examples"):
        hellaswag.read(path)


@pytest.mark.realdata
def test_real_examples_are_read_and_scored_near_chance(real_data, tokenizer):
    examples = hellaswag.read(real_data / "hellaswag" / "hellaswag_val_first1000.jsonl")
    assert len(examples) == 1000
    model = small_model(block_size=256, n_layer=1, vocab_size=tokenizer.vocab_size)
    metrics, _ = hellaswag.score(model, tokenizer, examples[:200], batch_size=16)
    assert abs(metrics["acc_norm"] - 0.25) < 5 * metrics["acc_norm_stderr"]
