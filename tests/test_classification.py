"""Classification: the head reads the last real token, transformers agrees, freezing holds, bad rows are named."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import GPT2ForSequenceClassification

from gpt2.classification import GPTClassifier, LabelledTexts, finetune, freeze, metrics, read_labels, save
from gpt2.config import ClassificationParams
from gpt2.errors import InputError
from gpt2.files import write_json
from tests.small import ALONE, CONFIG, OPTIM, byte_tokenizer, small_model

LABELS = ["cold", "hot"]
TOKENIZER = byte_tokenizer()


def params(**changes) -> ClassificationParams:
    return ClassificationParams(**{**OPTIM, "init": "pretrain", "trainable": "all", "last_blocks": 1, **changes})


def classifier() -> GPTClassifier:
    return GPTClassifier(small_model(vocab_size=257, dropout=0.0), len(LABELS), TOKENIZER.eot).eval()


def data(rows: list[dict]) -> LabelledTexts:
    return LabelledTexts(rows, LABELS, TOKENIZER, CONFIG.block_size, "train.jsonl")


@torch.no_grad()
def test_transformers_loads_it_with_equal_logits_in_a_padded_batch(tmp_path):
    ours = classifier()
    save(ours, LABELS, tmp_path)
    theirs = GPT2ForSequenceClassification.from_pretrained(tmp_path).eval()
    texts = [{"text": text, "label": "hot"} for text in ("a", "warm as toast", "x" * 50)]
    ids, _ = data(texts).batch(np.arange(3))
    assert ids.shape == (3, CONFIG.block_size)
    assert (ours(ids) - theirs(ids).logits).abs().max() < 1e-5
    assert theirs.config.id2label == {0: "cold", 1: "hot"}


@torch.no_grad()
def test_padding_does_not_change_a_prediction():
    model, rows = classifier(), [{"text": "ice", "label": "cold"}, {"text": "boiling water", "label": "hot"}]
    together, _ = data(rows).batch(np.arange(2))
    alone, _ = data(rows).batch(np.arange(1))
    assert together.size(1) > alone.size(1)
    torch.testing.assert_close(model(together)[:1], model(alone), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("trainable", "expected"),
    [("head", {"score"}), ("last_blocks", {"score", "transformer.h.1", "transformer.ln_f"}), ("all", None)],
)
def test_only_what_the_policy_names_is_trained(trainable, expected):
    model = classifier()
    freeze(model, params(trainable=trainable))
    model(torch.tensor([[1, 2, 3]]), torch.tensor([1])).backward()
    for name, parameter in model.named_parameters():
        trained = expected is None or any(name.startswith(f"{prefix}.") for prefix in expected)
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


def test_messages_name_the_folder_that_rows_come_from(tmp_path):
    rows = {"train": [{"text": "fire", "label": "hot"}], "val": [{"text": "fire", "label": "warm"}]}
    where = {"source": Path("data/raw/classification"), "seed": 0, "scratch": tmp_path, "world": ALONE}
    with pytest.raises(InputError, match="^data/raw/classification/val.jsonl, line 1: label = 'warm'"):
        finetune(small_model(vocab_size=257), TOKENIZER, rows, LABELS, params(), **where)


@pytest.mark.parametrize("labels", [["hot"], ["hot", "hot"], ["hot", 1], {"hot": 0, "cold": 1}, "hot", None])
def test_labels_are_two_different_texts_or_more(tmp_path, labels):
    path = tmp_path / "labels.json"
    write_json(path, labels)
    with pytest.raises(InputError, match=f"^{path}: expected a list of at least two texts, all different$"):
        read_labels(path)
    write_json(path, LABELS)
    assert read_labels(path) == LABELS


def test_metrics_against_a_count_by_hand():
    actual = ["hot", "hot", "cold", "hot"]
    sets = {
        "train": data([{"text": "t", "label": label} for label in ("hot", "hot", "cold")]),
        "test": data([{"text": "t", "label": label} for label in actual]),
    }
    given = np.eye(2, dtype=np.float32)[[1, 0, 0, 1]]  # right, wrong, right, right
    figures = metrics(given, sets)
    assert figures["accuracy"] == 0.75 and figures["majority_accuracy"] == 0.75 and figures["n"] == 4
    assert figures["f1"] == pytest.approx((2 * 2 / 5 + 2 * 1 / 3) / 2 + (0.8 - 2 * 2 / 5) / 2)
    assert figures["accuracy_stderr"] == pytest.approx((0.75 * 0.25 / 4) ** 0.5)


@pytest.mark.parametrize("precision", ["float32", "auto"])
def test_it_learns_to_tell_texts_apart(tmp_path, precision):
    rows = [
        {"text": f"{word} {i}", "label": label} for i in range(20) for word, label in (("ice", "cold"), ("sun", "hot"))
    ]
    done = finetune(
        small_model(vocab_size=257, dropout=0.0),
        TOKENIZER,
        {"train": rows[:30], "val": rows[30:], "test": rows[30:]},
        LABELS,
        params(steps=40, precision=precision),
        source=tmp_path,
        seed=0,
        scratch=tmp_path,
        world=ALONE,
    )
    assert done.metrics["accuracy"] == 1.0 and done.history.val[-1]["accuracy"] == 1.0
    assert [row["prediction"] for row in done.predictions] == [row["label"] for row in rows[30:]]
    assert all(0.5 <= row["probability"] <= 1 for row in done.predictions)
