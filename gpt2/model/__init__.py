"""GPT-2, and its checkpoints in Hugging Face's layout."""
