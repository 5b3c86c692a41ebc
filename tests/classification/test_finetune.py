"""Fine-tuning a classifier: it learns, freezing holds, runs repeat."""

import numpy as np
import pytest
import torch
from transformers import GPT2ForSequenceClassification

from gpt2.adapters import lora
from gpt2.adapters.classifier import GPTClassifier, predict, save
from gpt2.classification.finetune import Classified, finetune, freeze
from gpt2.config.params import ClassificationParams
from gpt2.training.optim import learning_rate
from tests.small import ALONE, CLASSIFICATION, RUN, byte_tokenizer, small_model

LABELS = ["cold", "hot"]
TOKENIZER = byte_tokenizer()
WORDS = (("ice", "cold"), ("sun", "hot"))
ROWS = [{"text": f"{word} {i}", "label": label} for i in range(20) for word, label in WORDS]
TRAIN, VAL = ROWS[:30], ROWS[30:]


def params(**changes) -> ClassificationParams:
    return ClassificationParams(**{**CLASSIFICATION, **changes})


def classifier() -> GPTClassifier:
    return GPTClassifier(small_model(vocab_size=257, dropout=0.0), len(LABELS), TOKENIZER.eot).eval()


def finetuned(scratch, train=TRAIN, world=ALONE, **changes) -> Classified:
    """A small model that learned to distinguish the rows."""
    return finetune(
        small_model(vocab_size=257, dropout=0.0),
        TOKENIZER,
        {"train": train, "val": VAL},
        LABELS,
        params(**changes),
        seed=0,
        scratch=scratch,
        **{**RUN, "world": world},
    )


def val_log_probs(model: GPTClassifier) -> np.ndarray:
    return predict(model, [TOKENIZER.encode(row["text"]) for row in VAL], batch_size=4)


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


def test_more_blocks_than_the_model_has_are_all_of_them():
    model = classifier()
    freeze(model, params(trainable="last_blocks", last_blocks=3))
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {"transformer.wte.weight", "transformer.wpe.weight"}


@pytest.mark.parametrize("trainable", ["all", "lora"])
@pytest.mark.parametrize("precision", ["float32", "auto"])
def test_it_learns_to_distinguish_texts(tmp_path, trainable, precision):
    done = finetuned(tmp_path, steps=40, precision=precision, trainable=trainable)
    assert done.metrics["val_accuracy"] == done.history.val[-1]["accuracy"] == 1.0
    assert [LABELS[i] for i in val_log_probs(done.model).argmax(axis=1)] == [row["label"] for row in VAL]


def test_truncated_texts_are_counted_per_split(tmp_path):
    long = {"text": "sun" * 10, "label": "hot"}
    metrics = finetuned(tmp_path, train=[*TRAIN, long, long], steps=1).metrics
    assert (metrics["truncated_train"], metrics["truncated_val"]) == (2, 0)


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


def test_the_model_of_the_lowest_validation_loss_is_kept(tmp_path):
    done = finetuned(tmp_path, steps=40, lr=0.3, trainable="all", patience=2)  # so fast it diverges
    lowest = min(row["loss"] for row in done.history.val)
    last = done.history.val[-1]
    assert done.metrics["best_step"] < last["step"] < 40 and lowest < last["loss"]
    assert done.metrics["val_loss"] == lowest
    log_probs, actual = val_log_probs(done.model), [LABELS.index(row["label"]) for row in VAL]
    assert -log_probs[np.arange(10), actual].mean() == pytest.approx(lowest, rel=1e-4)
    assert done.metrics["val_accuracy"] == np.mean(log_probs.argmax(axis=1) == actual)


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
