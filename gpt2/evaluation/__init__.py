"""Evaluation of models: HellaSwag, perplexity, and parity with transformers."""
