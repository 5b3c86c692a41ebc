"""How good a model is: HellaSwag, perplexity, and parity with transformers."""
