"""Fine-tuning to follow instructions, and the evaluation of the answers."""
