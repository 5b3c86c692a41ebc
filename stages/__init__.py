"""One thin module per DVC stage, which reads its declared params and deps, calls gpt2 and writes its outs."""

import os

PARENT = os.getppid()  # read before imports that take seconds: this process may lose its parent meanwhile
