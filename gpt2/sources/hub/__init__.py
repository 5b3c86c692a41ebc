"""Files from the Hugging Face hub."""
