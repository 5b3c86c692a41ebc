"""Samples: texts that a pretrained model writes."""

from collections.abc import Sequence

from gpt2.generation.generate import continuations, encode_prompt
from gpt2.model.gpt import GPT
from gpt2.pretraining.sampling import SAMPLING
from gpt2.tokenizer.tokenizer import Tokenizer


def write_samples(
    model: GPT, tokenizer: Tokenizer, prompts: Sequence[str], max_new_tokens: int, seed: int
) -> list[str]:
    """Returns the text with which the model continues each prompt, up to `<|endoftext|>`.

    Of a prompt longer than its context, the model sees the end.
    """
    encoded = [encode_prompt(tokenizer, prompt) for prompt in prompts]
    texts = continuations(model, encoded, max_new_tokens, SAMPLING, seed=seed, stop=[tokenizer.eot])
    return [tokenizer.decode(tokens) for tokens in texts]
