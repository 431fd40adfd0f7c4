"""What a command says when it cannot do its work, and the exit codes that scripts may rely on."""

from __future__ import annotations

FAILED = 1
"""The function failed, or what was asked for does not exist."""
USAGE = 2
"""The command line is wrong."""
UNREACHABLE = 3
"""The node could not be reached or started."""
INTERRUPTED = 130
"""Ended by SIGINT, as shells count it."""


class CommandError(Exception):
    """
    A command failed for a reason that its user can act on.

    Args:
        message: What was attempted, on what, and why it failed; one line.
        hint: What to do about it; one line.
        exit_code: One of the codes above.
    """

    def __init__(self, message: str, hint: str = "", exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.hint = hint
        self.exit_code = exit_code
