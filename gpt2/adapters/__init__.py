"""What fine-tuning puts on a GPT-2: LoRA, a classification head."""
