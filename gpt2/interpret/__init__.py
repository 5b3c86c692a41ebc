"""What heads attend to, and what embeddings became."""
