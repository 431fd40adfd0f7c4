"""Which network policy functions have: what the operator wants, and what this machine can do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from remora.node.settings import NodeError
from remora.sandbox.ways import name_server_problems

if TYPE_CHECKING:
    from collections.abc import Sequence

    from remora.sandbox.base import Network, SandboxDriver

HINT = "`remora doctor` says how to get it; or choose --network none or --network host"


@runtime_checkable
class _NetworkPower(Protocol):
    def network_problems(self) -> tuple[str, ...]: ...


def choose_network(
    driver: SandboxDriver, wanted: Network | None, named: Sequence[Network] = ()
) -> tuple[Network, tuple[str, ...]]:
    """
    Return the policy of functions that no other was given, and what is missing because of it.

    Args:
        driver: Who would have to provide it.
        wanted: What the operator chose; None: outwards as in Lambda, if this machine can, else nothing.
        named: Policies that single functions were given.

    Raises:
        NodeError: If the operator asked for what this machine cannot do.
    """
    if not isinstance(driver, _NetworkPower):
        return wanted or "host", ()
    if wanted not in (None, "nat") and "nat" not in named:
        return wanted or "none", ()
    problems = driver.network_problems()
    if not problems:
        return wanted or "nat", name_server_problems()
    if wanted == "nat" or "nat" in named:
        raise NodeError("; ".join(problems), HINT)
    return "none", tuple(f"functions reach no network: {problem}" for problem in problems)
