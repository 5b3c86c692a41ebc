"""The execution environment: processes, device, precision, compiler."""
