"""The decision what happens to an invocation that has just arrived: pure, counts in, verdict out."""

from __future__ import annotations

from enum import Enum

import msgspec


class Verdict(Enum):
    """What happens to the invocation."""

    PROVISIONED = "an idle provisioned environment takes it"
    REUSE = "an idle environment takes it"
    LINGER = "it waits a moment for an environment that has answered and is about to be done"
    START = "it waits, and one more environment is made"
    WAIT = "it waits for an environment that is being made for nobody else"
    REFUSE = "it is throttled"


class Counts(msgspec.Struct, frozen=True, gc=False):
    """
    What the decision depends on.

    Args:
        ready: Provisioned environments of the deployment that are available.
        idle: Other environments of the deployment that are available.
        starting: Environments of the deployment that are being made or reset, or are to be made.
        finishing: Environments of the deployment that have answered, but are not available yet.
        waiting: Invocations of the deployment that wait already.
        in_flight: Invocations on demand that count against the same share, running or waiting.
        limit: How many the share allows.
    """

    ready: int
    idle: int
    starting: int
    finishing: int
    waiting: int
    in_flight: int
    limit: int


def assign(counts: Counts) -> Verdict:
    """Decide about one invocation."""
    if counts.ready:
        return Verdict.PROVISIONED
    if counts.in_flight >= counts.limit:
        # A client that calls again at once finds its own former invocation answered, but still counted.
        return Verdict.LINGER if counts.finishing > counts.waiting else Verdict.REFUSE
    if counts.idle:
        return Verdict.REUSE
    if counts.starting > counts.waiting:
        return Verdict.WAIT
    if counts.starting + counts.finishing > counts.waiting:
        return Verdict.LINGER
    return Verdict.START
