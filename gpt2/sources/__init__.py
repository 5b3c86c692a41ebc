"""Where text and weights come from: docstrings of installed packages, the hub, files of one's own."""
