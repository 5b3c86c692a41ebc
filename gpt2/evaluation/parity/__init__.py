"""Does Hugging Face transformers compute the same? A table of cases, each with a number and its tolerance."""
