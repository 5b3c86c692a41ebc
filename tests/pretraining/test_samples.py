"""Samples: what they depend on."""

from gpt2.generation.generate import complete
from gpt2.pretraining.samples import SAMPLING, write_samples
from tests.small import byte_tokenizer, small_model

PROMPTS = ["a cat", "a prompt that is longer than the context of sixteen", "<|endoftext|>"]


def test_a_text_depends_on_its_prompt_and_seed_alone():
    model, tokenizer = small_model(vocab_size=257), byte_tokenizer()
    texts = write_samples(model, tokenizer, PROMPTS, 12, seed=3)
    assert texts == [complete(model, tokenizer, prompt, 12, SAMPLING, seed=3) for prompt in PROMPTS]
    assert texts != write_samples(model, tokenizer, PROMPTS, 12, seed=4)
    assert len(set(texts)) == 3
