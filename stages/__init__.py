"""One thin module per DVC stage: it reads its declared params and deps, calls `gpt2`, writes its declared outs."""

import os

PARENT = os.getppid()  # the process that started this one, noted before imports that take seconds
