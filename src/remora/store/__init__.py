"""Keeps records on disk, each change a transaction."""
