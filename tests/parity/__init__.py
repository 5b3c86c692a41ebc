"""Tests of gpt2/parity."""
