"""English that pip has already put on the machine: docstrings of installed packages, and rows made of them."""
