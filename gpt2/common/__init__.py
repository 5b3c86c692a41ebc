"""Shared by all rooms: errors, files, progress bars, processes, machine information. Does not need torch."""
