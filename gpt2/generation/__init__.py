"""Text generation: the loop, the cache of keys and values, sampling."""
