"""Pretraining: predicting the next token."""
