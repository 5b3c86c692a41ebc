"""One thin module per DVC stage: it reads its declared params and deps, calls `gpt2`, writes its declared outs."""
