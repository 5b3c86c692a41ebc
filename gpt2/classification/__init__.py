"""The second task: say which label a text has."""
