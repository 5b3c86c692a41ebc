"""Where text and weights come from: docstrings of installed packages, the hub, files in data/local."""
