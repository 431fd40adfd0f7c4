"""Snapshots of environments, kept sealed on disk and opened in memory."""
