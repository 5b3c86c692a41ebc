"""Modules that fine-tuning adds to GPT-2: LoRA and a classification head."""
