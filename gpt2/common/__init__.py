"""What every room may use: errors, files, progress bars, processes, facts about the machine. Needs no torch."""
