"""HellaSwag: scores equal transformers', one row at a time in float64; protocols format rows as published."""

import math

import numpy as np
import pytest
import torch
from transformers import GPT2LMHeadModel

from gpt2.common.errors import InputError
from gpt2.common.files import write_jsonl
from gpt2.evaluation import hellaswag
from gpt2.evaluation.hellaswag import PROTOCOLS, Example, Prompt, read, score
from gpt2.model import checkpoint
from gpt2.model.gpt import GPT
from gpt2.tokenizer.bpe import train_bpe
from gpt2.tokenizer.tokenizer import Tokenizer
from tests.small import ALONE, small_model

TEXT = "a man sits on the roof and starts to pull up tiles while two dogs watch him from below"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(train_bpe([TEXT + 9 * " dogs"], 280))


@pytest.fixture(scope="module")
def model(tokenizer) -> GPT:
    return small_model(block_size=64, vocab_size=tokenizer.vocab_size).double()


@pytest.fixture(scope="module")
def examples(tmp_path_factory) -> list[Example]:
    """Contexts and endings of very different lengths. Two rows in five are longer than the model's context."""
    random = np.random.default_rng(0)

    def text(most: int) -> str:
        return " ".join(random.choice(TEXT.split(), size=random.integers(1, most)))

    def example(n: int) -> dict:
        ctx_a, ctx_b = text(20), text(5)
        endings = ["[step] " * (i == n % 5) + text(12) for i in range(4)]
        return {**row(), "ind": n, "ctx": f"{ctx_a} {ctx_b}", "ctx_a": ctx_a, "ctx_b": ctx_b, "endings": endings}

    path = tmp_path_factory.mktemp("hellaswag") / "val.jsonl"
    write_jsonl(path, (example(n) for n in range(30)))
    return read(path)


def row() -> dict:
    return {
        "ind": 7,
        "activity_label": "Roof",
        "ctx": "a man",
        "endings": ["a", "b", "c", "d"],
        "label": 2,
        "split": "val",
    }


@pytest.fixture(scope="module", params=PROTOCOLS)
def protocol(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def scored(model, tokenizer, examples, protocol) -> tuple[dict, list[dict]]:
    return score(model, tokenizer, examples, protocol, ALONE)


def expected_prompt(example: Example, protocol: str) -> tuple[str, list[str], list[int]]:
    """The context, the continuations, and the endings' lengths in characters."""
    if protocol == "completion":
        return example.ctx, [" " + ending for ending in example.endings], []
    cleaned = [ending.replace("[step]", "") for ending in example.endings]
    context = f"{example.activity_label}: {example.ctx_a} {example.ctx_b.capitalize()}"
    return context, [" " + ending for ending in cleaned], [len(ending) for ending in cleaned]


def test_scores_equal_transformers_row_by_row(model, tokenizer, examples, scored, protocol, tmp_path):
    checkpoint.save(model, tmp_path)
    theirs = GPT2LMHeadModel.from_pretrained(tmp_path).double().eval()
    prefix = PROTOCOLS[protocol].prefix
    for example, result in zip(examples, scored[1], strict=True):
        context, tails, characters = expected_prompt(example, protocol)
        expected, lengths = [], []
        for tail in map(tokenizer.encode, tails):
            ids = torch.tensor([(tokenizer.encode(context) + tail)[-65:]])
            with torch.no_grad():
                log_probabilities = theirs(ids[:, :-1]).logits[0].log_softmax(dim=1)
            expected.append(log_probabilities.gather(1, ids[0, 1:, None])[-len(tail) :].sum().item())
            lengths.append(len(tail))
        assert result[f"{prefix}log_likelihoods"] == pytest.approx(expected, abs=1e-4)
        assert result[f"{prefix}prediction"] == np.argmax(expected)
        assert result[f"{prefix}prediction_norm"] == np.argmax(np.divide(expected, characters or lengths))


def test_metrics_follow_from_the_results(scored, examples, protocol):
    metrics, results = scored
    prefix = PROTOCOLS[protocol].prefix
    assert list(metrics) == [
        f"{prefix}{name}" for name in ("acc", "acc_stderr", "acc_norm", "acc_norm_stderr", "n", "truncated")
    ]
    for name, key in (("acc", "prediction"), ("acc_norm", "prediction_norm")):
        pairs = zip(results, examples, strict=True)
        correct = [float(result[prefix + key] == example.label) for result, example in pairs]
        assert metrics[prefix + name] == np.mean(correct)
        assert metrics[f"{prefix}{name}_stderr"] == pytest.approx(np.std(correct, ddof=1) / math.sqrt(30))
    assert metrics[f"{prefix}n"] == 30
    assert [result["ind"] for result in results] == list(range(30))


@pytest.mark.parametrize("batch_tokens", [1, 2000])
def test_padding_and_order_do_not_change_scores(
    model, tokenizer, examples, scored, protocol, batch_tokens, monkeypatch
):
    monkeypatch.setitem(hellaswag.BATCH_TOKENS, "cpu", batch_tokens)
    metrics, results = score(model, tokenizer, examples[::-1], protocol, ALONE)
    assert metrics == scored[0]
    assert results[::-1] == scored[1]


def test_rows_longer_than_the_context_are_truncated_and_counted(model, tokenizer, examples):
    def truncated(block_size: int) -> int:
        lengths = [
            len(tokenizer.encode(example.ctx)) + max(len(tokenizer.encode(" " + ending)) for ending in example.endings)
            for example in examples
        ]
        return sum(length > block_size + 1 for length in lengths)

    metrics, _ = score(model, tokenizer, examples, "completion", ALONE)
    assert 0 < truncated(64) < 30
    assert metrics["truncated"] == truncated(64)
    tiny = small_model(block_size=4, vocab_size=tokenizer.vocab_size)
    metrics, results = score(tiny, tokenizer, examples, "completion", ALONE)
    assert metrics["truncated"] == truncated(4)
    assert max(max(result["tokens"]) for result in results) == 4
    assert all(math.isfinite(value) for result in results for value in result["log_likelihoods"])


# --- protocols -----------------------------------------------------------------------------------------------------


def formatted(protocol: str, **changes) -> Prompt:
    return PROTOCOLS[protocol].format(Example.model_validate({**row(), **changes}))


def test_the_completion_protocol_leaves_texts_unchanged():
    prompt = formatted("completion", ctx="[header] Man", endings=["[step] a", "b", "c", ""])
    assert prompt == Prompt("[header] Man", [" [step] a", " b", " c", " "], [8, 1, 1, 0])


def test_the_harness_protocol_cleans_texts_and_moves_white_space():
    """The expected texts were derived by hand from lm_eval/tasks/hellaswag/utils.py."""
    prompt = formatted(
        "harness",
        activity_label="Home and Garden",
        ctx_a="[header] How to dry a roof [title] Wait [step] for the  Sun. ",
        ctx_b="[substeps]",
        endings=["[step] Stay in.", " Go [title] out", "x   y", "[step]"],
    )
    assert prompt.context == "Home and Garden: How to dry a roof. Wait for the Sun."
    assert prompt.continuations == ["   Stay in.", "  Go. out", "  x  y", "  "]
    assert prompt.characters == [9, 7, 4, 0]
    assert formatted("harness", ctx_a="A roof.", ctx_b="the MAN").context == "Roof: A roof. The man"
    assert formatted("harness", ctx="A roof. the man").context == "Roof: A roof. the man"


def test_an_ending_that_is_empty_after_cleaning_is_never_picked_by_its_mean(model, tokenizer):
    example = Example.model_validate({**row(), "endings": ["[a]", "[b]", "the roof and the tiles", "[d]"]})
    _, (result,) = score(model, tokenizer, [example], "harness", ALONE)
    assert result["harness_prediction_norm"] == 2 and result["harness_prediction"] != 2


# --- examples ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": 4}, "label = 4"),
        ({"endings": ["a", "b", "c"]}, "endings = "),
        ({"endings": ["a", "b", "c", 4]}, r"endings.3 = 4"),
    ],
    ids=str,
)
def test_a_malformed_example_is_named(tmp_path, change, message):
    path = tmp_path / "val.jsonl"
    write_jsonl(path, [row(), {**row(), **change}])
    with pytest.raises(InputError, match=message) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}, row 2: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "message"), [("", "no examples"), ('{"ind": 7}', "row 1: ctx is missing")])
def test_an_empty_file_or_a_missing_key_is_an_error(tmp_path, text, message):
    path = tmp_path / "val.jsonl"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read(path)


def test_a_model_whose_log_likelihoods_are_not_finite_is_an_error(tokenizer, examples):
    broken = small_model(block_size=64, vocab_size=tokenizer.vocab_size)
    with torch.no_grad():
        broken.ln_f.bias[0] = math.nan
    with pytest.raises(InputError, match="example 0: log-likelihoods .*nan.* are not finite"):
        score(broken, tokenizer, examples, "completion", ALONE)
