"""Platform records, log lines and timelines: made, kept, read back."""
