"""Byte-level BPE: training a vocabulary, and using one."""
