"""The project's own face finder: its network, its teacher, its training and its graph."""
