"""The third task: answer instructions."""
