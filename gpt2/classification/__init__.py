"""Fine-tuning a classifier: training and metrics."""
