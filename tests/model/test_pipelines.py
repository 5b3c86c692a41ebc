"""transformers' text generation with our checkpoints: batches, padding, and the settings that they bring."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

from gpt2.generation.generate import continuations
from gpt2.generation.sampling import GREEDY
from gpt2.model.checkpoint import save_with_tokenizer
from gpt2.pretraining.sampling import GENERATION, SAMPLING
from tests.small import byte_tokenizer, small_model

TOKENIZER = byte_tokenizer()
PROMPTS = ["a", "Returns the", "x = 1\n", "  ", "If it is None, then", "é", "abc", "The cat sat on the mat.", "q"]


@pytest.fixture(scope="module")
def model():
    """Its blocks outweigh the embeddings, so that it does not repeat its last token."""
    model = small_model(vocab_size=257, block_size=64, dropout=0.0)
    with torch.no_grad():
        for parameter in model.h.parameters():
            parameter *= 3
    return model


@pytest.fixture(scope="module")
def directory(model, tmp_path_factory):
    place = tmp_path_factory.mktemp("model")
    save_with_tokenizer(model, TOKENIZER, place, GENERATION)
    return str(place)


@pytest.mark.parametrize("side", [None, "right"])
def test_ragged_prompts_in_a_batch_give_the_texts_of_single_prompts_and_ours(model, directory, side):
    """We pad on the right, and transformers pads on the left, whatever side the user asks for."""
    tokenizer = AutoTokenizer.from_pretrained(directory, **({"padding_side": side} if side else {}))
    assert tokenizer.padding_side == (side or "left") and tokenizer.pad_token_id == TOKENIZER.eot
    write = pipeline("text-generation", model=directory, tokenizer=tokenizer, device="cpu")
    settings = {"do_sample": False, "max_new_tokens": 20, "return_full_text": False}
    together = [text["generated_text"] for (text,) in write(PROMPTS, batch_size=8, **settings)]
    assert together == [write(prompt, **settings)[0]["generated_text"] for prompt in PROMPTS]
    ids = [TOKENIZER.encode(prompt) for prompt in PROMPTS]
    ours = continuations(model, ids, 20, GREEDY, stop=[TOKENIZER.eot])
    assert together == [TOKENIZER.decode(tokens) for tokens in ours]
    assert len(set(together)) == len(PROMPTS)


def test_by_default_it_samples_as_the_samples_of_the_chain_and_fits_the_context(directory):
    settings = AutoModelForCausalLM.from_pretrained(directory).generation_config
    assert (settings.do_sample, settings.temperature, settings.top_k) == (True, SAMPLING.temperature, SAMPLING.top_k)
    assert settings.max_new_tokens == 32  # half the context
    assert settings.pad_token_id == settings.eos_token_id == settings.bos_token_id == TOKENIZER.eot
