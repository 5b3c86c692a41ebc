"""Fine-tuning a classifier: it learns, freezing holds, runs repeat, bad rows are named."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import GPT2ForSequenceClassification

from gpt2.adapters import lora
from gpt2.adapters.classifier import GPTClassifier, predict, save
from gpt2.classification.finetune import (
    Classified,
    LabeledTexts,
    finetune,
    freeze,
    predictions,
    read_labels,
)
from gpt2.common.errors import InputError
from gpt2.common.files import write_json
from gpt2.config.params import ClassificationParams
from gpt2.training.optim import learning_rate
from tests.small import ALONE, CLASSIFICATION, CONFIG, byte_tokenizer, small_model

LABELS = ["cold", "hot"]
TOKENIZER = byte_tokenizer()


def params(**changes) -> ClassificationParams:
    return ClassificationParams(**{**CLASSIFICATION, **changes})


def classifier() -> GPTClassifier:
    return GPTClassifier(small_model(vocab_size=257, dropout=0.0), len(LABELS), TOKENIZER.eot).eval()


WORDS = (("ice", "cold"), ("sun", "hot"))
ROWS = [{"text": f"{word} {i}", "label": label} for i in range(20) for word, label in WORDS]


def finetuned(scratch, rows=None, labels=LABELS, **changes) -> Classified:
    """A small model that learned to distinguish ROWS, or other rows."""
    rows = rows or {"train": ROWS[:30], "val": ROWS[30:], "test": ROWS[30:]}
    where = {"source": Path("data/raw/classification"), "seed": 0, "scratch": scratch, "world": ALONE}
    return finetune(small_model(vocab_size=257, dropout=0.0), TOKENIZER, rows, labels, params(**changes), **where)


def data(rows: list[dict]) -> LabeledTexts:
    return LabeledTexts(rows, LABELS, TOKENIZER, CONFIG.block_size, "train.jsonl")


@pytest.mark.parametrize(
    ("trainable", "expected"),
    [
        ("head", {"score"}),
        ("last_blocks", {"score", "transformer.h.1", "transformer.ln_f"}),
        (
            "lora",
            {"score", *(f"transformer.h.{i}.{name}.lora_" for i in (0, 1) for name in ("attn.c_attn", "mlp.c_fc"))},
        ),
        ("all", None),
    ],
)
def test_only_what_the_policy_names_is_trained(trainable, expected):
    model = classifier()
    freeze(model, params(trainable=trainable))
    model(torch.tensor([[1, 2, 3]]), torch.tensor([1])).backward()
    for name, parameter in model.named_parameters():
        trained = expected is None or name.startswith(tuple(expected))
        assert parameter.requires_grad == (parameter.grad is not None) == trained, name


def test_more_blocks_than_the_model_has_are_refused():
    with pytest.raises(InputError, match=r"classification\.last_blocks = 3: the model has 2 blocks"):
        freeze(classifier(), params(trainable="last_blocks", last_blocks=3))


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"text": "warm", "label": "tepid"}, "train.jsonl, line 2: label = 'tepid': expected one of cold, hot"),
        ({"text": " ", "label": "hot"}, "train.jsonl, line 2: text = ' '"),
        ({"label": "hot"}, "train.jsonl, line 2: text = None"),
    ],
)
def test_a_bad_row_is_named(row, words):
    with pytest.raises(InputError, match=words):
        data([{"text": "fire", "label": "hot"}, row])


@pytest.mark.parametrize(
    ("split", "rows", "message"),
    [
        ("train", ROWS[::2], "train.jsonl: every text has the label 'cold': expected two or more"),
        (
            "test",
            [*ROWS, {"text": "tea", "label": "mild"}],
            "test.jsonl, line 41: label = 'mild': no text of data/raw/classification/train.jsonl has it",
        ),
        ("val", [], "val.jsonl: contains no examples"),
    ],
)
def test_an_error_names_rows_that_cannot_be_learned_from(tmp_path, split, rows, message):
    labels = [*LABELS, "mild"] if "mild" in message else LABELS
    with pytest.raises(InputError) as error:
        finetuned(tmp_path, {"train": ROWS, "val": ROWS, "test": ROWS} | {split: rows}, labels)
    assert str(error.value) == f"data/raw/classification/{message}"


def test_texts_longer_than_the_context_are_cut_and_counted():
    texts = data([{"text": "x" * length, "label": "hot"} for length in (15, 16, 17, 400)])
    assert texts.lengths.tolist() == [15, 16, 16, 16] and texts.truncated == 2


@pytest.mark.parametrize("labels", [["hot"], ["hot", "hot"], ["hot", 1], {"hot": 0, "cold": 1}, "hot", None])
def test_labels_are_two_different_texts_or_more(tmp_path, labels):
    path = tmp_path / "labels.json"
    write_json(path, labels)
    with pytest.raises(InputError, match=f"^{path}: expected a list of at least two texts, all different$"):
        read_labels(path)
    write_json(path, LABELS)
    assert read_labels(path) == LABELS


@pytest.mark.parametrize("trainable", ["all", "lora"])
@pytest.mark.parametrize("precision", ["float32", "auto"])
def test_it_learns_to_distinguish_texts(tmp_path, trainable, precision):
    done = finetuned(tmp_path, steps=40, precision=precision, trainable=trainable)
    figures = done.metrics
    assert figures["accuracy"] == figures["f1"] == done.history.val[-1]["accuracy"] == 1.0
    assert figures["bag_of_words_accuracy"] == 1.0 and figures["majority_accuracy"] == 0.5 and figures["n"] == 10
    assert figures["truncated"] == 0
    assert [row["prediction"] for row in done.predictions] == [row["label"] for row in ROWS[30:]]
    assert all(0.5 <= row["probability"] <= 1 for row in done.predictions)
    assert [row["label"] for row in done.classes] == LABELS and all(row["f1"] == 1.0 for row in done.classes)


def test_what_is_predicted_is_what_the_metrics_read():
    low = np.float32(-0.6931472)
    found = np.array([[low, np.nextafter(low, np.float32(0))]])
    assert found.argmax() == 1 and np.exp(found).argmax() == 0  # as probabilities they are one number
    assert predictions(found, [{"text": "x"}], LABELS) == [{"text": "x", "prediction": "hot", "probability": 0.5}]


def test_after_lora_the_checkpoint_is_plain_and_its_adapters_are_counted(tmp_path):
    done = finetuned(tmp_path / "scratch", trainable="lora")
    adapters = 2 * (4 * (32 + 96) + 4 * (32 + 128))  # layers, rank, inputs and outputs of c_attn and of c_fc
    parameters = sum(parameter.numel() for parameter in classifier().parameters())
    assert done.metrics["trainable_parameters"] == adapters + 2 * 32
    assert done.metrics["trainable_share"] == (adapters + 2 * 32) / (parameters + adapters)
    assert not list(lora.adapters(done.model))
    save(done.model, LABELS, tmp_path / "model")
    _, loaded = GPT2ForSequenceClassification.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not loaded["missing_keys"] and not loaded["unexpected_keys"]


def test_what_is_tested_is_the_model_of_the_lowest_validation_loss(tmp_path):
    done = finetuned(tmp_path, steps=40, lr=0.3, trainable="all", patience=2)  # so fast it diverges
    lowest = min(row["loss"] for row in done.history.val)
    last = done.history.val[-1]
    assert done.metrics["best_step"] < last["step"] < 40 and lowest < last["loss"]
    found = predict(done.model, data(ROWS[30:]).ids, batch_size=4)
    actual = np.array(data(ROWS[30:]).labels)
    assert -found[np.arange(10), actual].mean() == pytest.approx(lowest, rel=1e-4)


def test_a_killed_run_ends_with_the_same_bytes(tmp_path, monkeypatch):
    def dying_rate(step, params):
        if step == 7:
            raise KeyboardInterrupt
        return learning_rate(step, params)

    whole = finetuned(tmp_path / "whole", trainable="lora")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("gpt2.training.trainer.learning_rate", dying_rate)
        finetuned(tmp_path / "parts", trainable="lora")
    again = finetuned(tmp_path / "parts", trainable="lora")
    assert again.history.train == whole.history.train and again.metrics == whole.metrics
    save(whole.model, LABELS, tmp_path / "first")
    save(again.model, LABELS, tmp_path / "second")
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("first", "second"))
    assert first == second
