"""Batch jobs over everything that keeps cores: what is found becomes tasks, what is done becomes outcomes."""
