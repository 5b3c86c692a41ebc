"""The shapes of the four models that OpenAI released."""

from gpt2.config.params import GPTConfig

OPENAI_SHAPES = {  # Radford et al. 2019, table 2; every head is 64 wide
    "gpt2": {"n_layer": 12, "n_head": 12, "n_embd": 768},
    "gpt2-medium": {"n_layer": 24, "n_head": 16, "n_embd": 1024},
    "gpt2-large": {"n_layer": 36, "n_head": 20, "n_embd": 1280},
    "gpt2-xl": {"n_layer": 48, "n_head": 25, "n_embd": 1600},
}


def openai_config(name: str) -> GPTConfig:
    """The configuration of one of OpenAI's four models: dropout 0.1, 1,024 positions, 50,257 tokens."""
    return GPTConfig(block_size=1024, vocab_size=50257, dropout=0.1, **OPENAI_SHAPES[name])
