"""Fine-tuning a classifier: it learns, freezing holds, runs repeat, bad rows are named."""

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
)
from gpt2.common.errors import InputError
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
    where = {"seed": 0, "scratch": scratch, "world": ALONE}
    return finetune(small_model(vocab_size=257, dropout=0.0), TOKENIZER, rows, labels, params(**changes), **where)


def data(rows: list[dict]) -> LabeledTexts:
    return LabeledTexts(rows, LABELS, TOKENIZER, CONFIG.block_size)


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


def test_texts_longer_than_the_context_are_cut_and_counted():
    texts = data([{"text": "x" * length, "label": "hot"} for length in (15, 16, 17, 400)])
    assert texts.lengths.tolist() == [15, 16, 16, 16] and texts.truncated == 2


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
