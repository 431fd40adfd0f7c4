"""One living environment: its machine, its APIs, its processes."""
