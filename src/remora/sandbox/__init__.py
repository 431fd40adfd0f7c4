"""Starts, watches and surely ends the processes of one environment."""
