"""Where the work runs: processes, device, precision, compiler."""
