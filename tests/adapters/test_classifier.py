"""A classifier: the head reads the last real token, as in transformers; other checkpoints are refused."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import GPT2Config, GPT2ForSequenceClassification, pipeline

from gpt2.adapters.classifier import GPTClassifier, load, padded, predict, save
from gpt2.common.errors import InputError
from gpt2.model.checkpoint import save as save_base
from tests.conftest import ROOT
from tests.small import CONFIG, byte_tokenizer, small_model

LABELS = ["cold", "hot"]
TOKENIZER = byte_tokenizer()


def classifier() -> GPTClassifier:
    return GPTClassifier(small_model(vocab_size=257, dropout=0.0), len(LABELS), TOKENIZER.eot).eval()


def batch(*texts: str) -> Tensor:
    return padded([TOKENIZER.encode(text) for text in texts], TOKENIZER.eot)


@torch.no_grad()
def test_transformers_loads_it_with_equal_logits_in_a_padded_batch(tmp_path):
    ours = classifier()
    save(ours, LABELS, tmp_path)
    theirs = GPT2ForSequenceClassification.from_pretrained(tmp_path).eval()
    ids = batch("a", "warm as toast", "x" * CONFIG.block_size)
    assert (ours(ids) - theirs(ids).logits).abs().max() < 1e-5
    assert theirs.config.id2label == {0: "cold", 1: "hot"}
    again, labels = load(tmp_path)
    assert torch.equal(again(ids), ours(ids)) and labels == LABELS and not again.training


def test_a_batch_in_a_pipeline_gives_the_labels_of_single_texts_and_ours(tmp_path):
    ours, texts = classifier(), ["a", "warm as toast", "x" * CONFIG.block_size, "ice", "b", "hot", "cold", "1, 2", "7"]
    save(ours, LABELS, tmp_path)
    TOKENIZER.save(tmp_path, CONFIG.block_size, padding_side="right")
    label = pipeline("text-classification", model=str(tmp_path), device="cpu", top_k=None)
    together, alone = label(texts, batch_size=8), [label([text])[0] for text in texts]
    shares = np.exp(predict(ours, [TOKENIZER.encode(text) for text in texts], batch_size=8))
    for rows, single, share in zip(together, alone, shares, strict=True):
        found, expected = ({row["label"]: row["score"] for row in scores} for scores in (rows, single))
        assert found == pytest.approx(expected, abs=1e-5)
        assert found == pytest.approx(dict(zip(LABELS, share, strict=True)), abs=1e-5)


@torch.no_grad()
def test_a_checkpoint_of_transformers_is_read_with_equal_logits(tmp_path):
    shape = {"vocab_size": 257, "n_positions": 16, "n_embd": 32, "n_layer": 2, "n_head": 4}
    theirs = GPT2ForSequenceClassification(GPT2Config(**shape, num_labels=3, pad_token_id=256)).eval()
    theirs.save_pretrained(tmp_path)
    ours, labels = load(tmp_path)
    ids = batch("a", "warm as toast")
    assert (ours(ids) - theirs(ids).logits).abs().max() < 1e-5
    assert labels == ["LABEL_0", "LABEL_1", "LABEL_2"]


def test_an_error_names_a_directory_that_holds_no_classifier(tmp_path):
    save_base(small_model(), tmp_path)
    with pytest.raises(InputError, match=rf"^{tmp_path}: no classifier: .* no tensor score\.weight$"):
        load(tmp_path)
    with pytest.raises(InputError, match=r"nowhere: no such model directory$"):
        load(tmp_path / "nowhere")


@torch.no_grad()
def test_padding_does_not_change_a_prediction():
    model, together, alone = classifier(), batch("ice", "boiling water"), batch("ice")
    assert together.size(1) > alone.size(1)
    torch.testing.assert_close(model(together)[:1], model(alone), atol=1e-5, rtol=0)


def test_texts_of_similar_lengths_share_a_batch_and_keep_their_places():
    model, texts = classifier(), [TOKENIZER.encode("x" * length) for length in (9, 2, 16, 3, 5)]
    found = predict(model, texts, batch_size=2)
    alone = np.concatenate([predict(model, [text], batch_size=1) for text in texts])
    np.testing.assert_allclose(found, alone, atol=1e-5)
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1, atol=1e-6)


def test_the_command_does_not_import_what_only_training_needs():
    code = "import sys, gpt2.commands.classify; sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
