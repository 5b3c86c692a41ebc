"""Text from a model: the loop, the cache of keys and values, sampling."""
