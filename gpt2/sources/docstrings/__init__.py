"""English text that pip has already installed: docstrings of packages, and rows made from them."""
