"""Finds the language runtimes of this machine and lays out /var/lang and /var/runtime."""
