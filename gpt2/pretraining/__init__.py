"""The first task: predict the next token."""
