"""Speed beside what else there is, one command each."""
