"""Counts what is set aside of the account's concurrency, and how it is used; nothing while nothing is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remora.telemetry.metrics import UTILIZATION_WHOLE

if TYPE_CHECKING:
    from remora.pool.group import Member
    from remora.pool.ledger import Ledger
    from remora.telemetry.meter import Meters


def count_shares(meters: Meters, ledger: Ledger, invoked_arn: str) -> None:
    """Count what runs without a reservation, and what is claimed of the account's limit."""
    meters.add("UnreservedConcurrentExecutions", invoked_arn, ledger.unreserved_in_flight())
    meters.add("ClaimedAccountConcurrency", invoked_arn, ledger.claimed())


def count_provisioned(meters: Meters, ledger: Ledger, member: Member, invoked_arn: str) -> None:
    """Count an invocation of a function with provisioned environments, and where it has found room."""
    load = member.group.load
    if member.provisioned is None:
        meters.add("ProvisionedConcurrencySpilloverInvocations", invoked_arn, 1)
        return
    meters.add("ProvisionedConcurrencyInvocations", invoked_arn, 1)
    meters.add("ProvisionedConcurrentExecutions", invoked_arn, load.provisioned_in_use)
    whole = max(load.provisioned, load.provisioned_in_use)
    utilization = load.provisioned_in_use * UTILIZATION_WHOLE // whole
    meters.add("ProvisionedConcurrencyUtilization", invoked_arn, utilization)
    count_shares(meters, ledger, invoked_arn)
