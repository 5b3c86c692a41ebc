"""What every room may use: errors, files, progress, processes, facts of the machine. Needs no torch."""
