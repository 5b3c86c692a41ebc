"""Fine-tuning to follow instructions: the prompt, training, and scoring of answers."""
