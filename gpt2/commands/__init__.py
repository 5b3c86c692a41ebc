"""The commands of `python -m gpt2`, one module each. No other room imports them."""
