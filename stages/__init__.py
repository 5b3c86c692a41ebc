"""One thin module per DVC stage, which reads its declared params and deps, calls gpt2 and writes its outs."""

import os
import time

# Read before imports that take seconds.
PARENT = os.getppid()  # this process may lose its parent meanwhile
BEGAN = time.time()
