"""The training loop, its batches, its optimizers, and how it resumes."""
