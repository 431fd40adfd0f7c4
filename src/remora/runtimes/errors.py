"""How the runtimes room says no."""

from __future__ import annotations


class RuntimeUnavailable(Exception):  # noqa: N818 - what callers must tell their user
    """
    A runtime cannot be had on this machine.

    Args:
        message: What was attempted, on what, and what to do.
        retryable: True if another try may succeed without a change of the machine (network, disk).
    """

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable
