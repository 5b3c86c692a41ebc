"""Tests of gpt2/sources."""
