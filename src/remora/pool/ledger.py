"""
Who may have how many concurrent executions: account limit, reserved and provisioned concurrency. Pure.

Every function has a load. What it runs on demand counts against a share: one of its own if concurrency is
reserved for it, else the one that all other functions have in common. What runs in a provisioned environment
was set aside before and counts against no share.

A function of which nothing runs, and that finds the common share full, is promised the next room there:
however many invocations of others arrive until its caller comes again, they do not take it.

Source: control-plane specification, B.11; AWS Lambda Developer Guide, "Lambda function scaling".
"""

from __future__ import annotations

from typing import Final

from remora.spec.limits import SCALE_OUT_ENVIRONMENTS, SCALE_OUT_PERIOD_S

ACCOUNT: Final = "ConcurrentInvocationLimitExceeded"
RESERVED: Final = "ReservedFunctionConcurrentInvocationLimitExceeded"
RATE: Final = "FunctionInvocationRateLimitExceeded"
RESERVED_RATE: Final = "ReservedFunctionInvocationRateLimitExceeded"

PROMISE_US: Final = 2_000_000
"""How long room is kept for a function that was refused: it was told to come again after a second."""
_PROMISES_PART: Final = 4
"""At most this part of a share is promised."""
_PERIOD_US: Final = SCALE_OUT_PERIOD_S * 1_000_000


class Share:
    """
    An allowance of concurrent executions on demand.

    Args:
        limit: How many there may be.
        reason: Why the next one is refused.
        rate_reason: Why it is refused if environments are made too fast.
    """

    __slots__ = ("in_flight", "in_provisioned", "limit", "promised", "rate_reason", "reason")

    def __init__(self, limit: int, reason: str, rate_reason: str) -> None:
        self.in_flight = 0
        self.in_provisioned = 0
        """What its functions run in provisioned environments; no limit but theirs applies to that."""
        self.limit = limit
        self.promised: dict[str, int] = {}
        """Functions for which room is kept, and until when (monotonic time, microseconds)."""
        self.reason = reason
        self.rate_reason = rate_reason

    def __repr__(self) -> str:
        return f"<Share {self.in_flight} of {self.limit}>"

    def limit_for(self, function_arn: str, now_us: int) -> int:
        """Return how many there may be when a function asks: what is promised to others is not for it."""
        for each in [each for each, until_us in self.promised.items() if until_us <= now_us]:
            del self.promised[each]
        return self.limit - len(self.promised) + (function_arn in self.promised)

    def promise(self, function_arn: str, now_us: int) -> None:
        """Keep room for a function that was refused though nothing of it runs."""
        if function_arn in self.promised or len(self.promised) < max(1, self.limit // _PROMISES_PART):
            self.promised[function_arn] = now_us + PROMISE_US


class ScaleOut:
    """How fast a function may have environments made: refilled steadily, up to a full period's worth."""

    __slots__ = ("_at_us", "_credit_us")

    def __init__(self, now_us: int) -> None:
        self._at_us = now_us
        self._credit_us = _PERIOD_US

    def __repr__(self) -> str:
        return f"<ScaleOut {self._credit_us * SCALE_OUT_ENVIRONMENTS // _PERIOD_US} environments left>"

    def take(self, now_us: int) -> int:
        """Take one environment at a monotonic time; returns 0, or the microseconds until there is one."""
        price_us = _PERIOD_US // SCALE_OUT_ENVIRONMENTS
        self._credit_us = min(_PERIOD_US, self._credit_us + max(0, now_us - self._at_us))
        self._at_us = now_us
        if self._credit_us < price_us:
            return price_us - self._credit_us
        self._credit_us -= price_us
        return 0


class Load:
    """
    One function's part of the account's concurrency.

    Args:
        function_arn: Unqualified ARN.
        share: What it begins to count against.
        now_us: The monotonic time, microseconds.
    """

    __slots__ = (
        "function_arn",
        "groups",
        "on_demand",
        "provisioned",
        "provisioned_in_use",
        "reserved",
        "scale_out",
        "share",
    )

    def __init__(self, function_arn: str, share: Share, now_us: int) -> None:
        self.function_arn = function_arn
        self.groups = 0
        """Deployments that have environments, or want some."""
        self.on_demand = 0
        """Invocations on demand that run or wait."""
        self.provisioned = 0
        """Environments that are set aside for it, ready or not."""
        self.provisioned_in_use = 0
        self.reserved: int | None = None
        self.share = share
        self.scale_out = ScaleOut(now_us)

    def __repr__(self) -> str:
        return (
            f"<Load {self.on_demand} on demand, {self.provisioned_in_use} of {self.provisioned} provisioned>"
        )

    def refused(self, now_us: int) -> None:
        """Take note that there was no room: if nothing of it runs, it gets the next that others leave."""
        if not self.on_demand and self.share.reason is ACCOUNT:
            self.share.promise(self.function_arn, now_us)

    def enter(self) -> None:
        """Count an invocation on demand."""
        self.on_demand += 1
        self.share.in_flight += 1
        if self.share.promised:
            self.share.promised.pop(self.function_arn, None)

    def leave(self) -> None:
        """Count it no more."""
        self.on_demand -= 1
        self.share.in_flight -= 1

    def enter_provisioned(self) -> None:
        """Count an invocation in a provisioned environment."""
        self.provisioned_in_use += 1
        self.share.in_provisioned += 1

    def leave_provisioned(self) -> None:
        """Count it no more."""
        self.provisioned_in_use -= 1
        self.share.in_provisioned -= 1


class Ledger:
    """
    The account's concurrency.

    Args:
        limit: Concurrent executions of all functions together.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.common = Share(limit, ACCOUNT, RATE)
        self.set_aside = 0
        """What is reserved for functions, or provisioned for those without a reservation."""
        self._loads: dict[str, Load] = {}

    def __repr__(self) -> str:
        return (
            f"<Ledger {self.common.in_flight} of {self.common.limit} in common, {self.set_aside} set aside>"
        )

    def load(self, function_arn: str, now_us: int) -> Load:
        """Return the load of a function; `now_us` is the monotonic time."""
        load = self._loads.get(function_arn)
        if load is None:
            load = self._loads[function_arn] = Load(function_arn, self.common, now_us)
        return load

    def reserve(self, function_arn: str, count: int | None, now_us: int) -> None:
        """Reserve concurrency for a function; None takes the reservation back."""
        load = self.load(function_arn, now_us)
        if load.reserved == count:
            return
        load.reserved = count
        share = self.common if count is None else Share(count, RESERVED, RESERVED_RATE)
        load.share.in_flight -= load.on_demand
        load.share.in_provisioned -= load.provisioned_in_use
        load.share.promised.pop(function_arn, None)
        share.in_flight += load.on_demand
        share.in_provisioned += load.provisioned_in_use
        load.share = share
        self._balance()

    def provision(self, function_arn: str, count: int, now_us: int) -> None:
        """Say how many provisioned environments a function's versions and aliases have in total."""
        load = self.load(function_arn, now_us)
        if load.provisioned != count:
            load.provisioned = count
            self._balance()

    def forget(self, function_arn: str) -> None:
        """Let go of a function that has nothing and runs nothing."""
        load = self._loads.get(function_arn)
        if load and load.reserved is None and not load.groups and not load.provisioned:
            del self._loads[function_arn]

    def _balance(self) -> None:
        """Set the limits of all shares anew."""
        self.set_aside = 0
        for load in self._loads.values():
            self.set_aside += load.provisioned if load.reserved is None else load.reserved
            if load.reserved is not None:
                load.share.limit = max(0, load.reserved - load.provisioned)
        self.common.limit = max(0, self.limit - self.set_aside)

    def unreserved_in_flight(self) -> int:
        """Count what functions without a reservation are running, provisioned or on demand."""
        return self.common.in_flight + self.common.in_provisioned

    def claimed(self) -> int:
        """Count what is set aside, and what runs on demand beyond it: ClaimedAccountConcurrency."""
        return self.set_aside + self.common.in_flight
