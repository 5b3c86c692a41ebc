"""Labeled texts as samples."""

from gpt2.classification.texts import LabeledTexts
from tests.small import CONFIG, byte_tokenizer


def test_texts_longer_than_the_context_are_cut_and_counted():
    rows = [{"text": "x" * length, "label": "hot"} for length in (15, 16, 17, 400)]
    texts = LabeledTexts(rows, ["cold", "hot"], byte_tokenizer(), CONFIG.block_size)
    assert texts.lengths.tolist() == [15, 16, 16, 16] and texts.truncated == 2
