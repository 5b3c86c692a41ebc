"""Where text comes from: docstrings of installed packages, and model files from the hub."""
