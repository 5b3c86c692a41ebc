"""How texts are drawn from a pretrained model: while it trains, as samples, and by default in transformers."""

from gpt2.generation.sampling import Sampling

SETTINGS = {"temperature": 0.8, "top_k": 50}
SAMPLING = Sampling(**SETTINGS)
GENERATION = {"do_sample": True, **SETTINGS}  # for transformers
