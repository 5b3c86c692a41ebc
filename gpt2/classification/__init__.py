"""Fine-tuning a classifier, and its evaluation."""
