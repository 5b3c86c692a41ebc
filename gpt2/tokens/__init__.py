"""From text to shards of token ids, and back to a stream of tokens."""
