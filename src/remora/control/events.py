"""What the queue of asynchronous invocations asks about functions, answered from the records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from remora.control.callers import Caller
from remora.control.permissions.functions import need_to_send
from remora.control.resolving import deployment_of, version_of
from remora.control.rights import context_of, refusal
from remora.events.base import Policy
from remora.resources import versions
from remora.resources.names import LATEST, resolve_function
from remora.spec.errors import ApiError
from remora.spec.limits import EVENT_AGE_S_DEFAULT, EVENT_RETRIES_DEFAULT

if TYPE_CHECKING:
    from remora.control.context import Control
    from remora.events.base import Event
    from remora.pool.base import Deployment


class MeasuringPool(Protocol):
    """Who knows how much may run."""

    def concurrency(self, function_arn: str) -> int:
        """Return how many invocations of a function there may be at once."""


class EventFunctions:
    """
    The functions of a node, as events see them.

    Args:
        pool: Knows how much may run.
    """

    def __init__(self, pool: MeasuringPool) -> None:
        self._pool = pool
        self._begun: Control | None = None
        self._judges = False

    def __repr__(self) -> str:
        return f"<EventFunctions {'begun' if self._begun else 'new'}>"

    def begin(self, control: Control, *, judges: bool) -> None:
        """Answer from the records of a node from now on; if it `judges`, roles need permissions."""
        self._begun, self._judges = control, judges

    @property
    def _control(self) -> Control:
        assert self._begun is not None, "nobody can ask before the records are known"
        return self._begun

    def new_id(self) -> str:
        """Return a fresh request id, a UUID."""
        return self._control.new_id()

    def policy(self, event: Event) -> Policy:
        """
        Return what is configured for an event.

        Raises:
            Gone: If there is no such function.
        """
        view = self._control.state.view
        version = version_of(self._control, event.function, event.qualifier or LATEST)
        function = view.functions[event.function]
        found = view.event_invoke_configs.get(event.function, {}).get(event.qualifier or LATEST)
        dead_letter = version.extra.get("DeadLetterConfig")
        target = dead_letter.get("TargetArn") if isinstance(dead_letter, dict) else None
        policy = Policy(
            dead_letter=target,
            is_blocked=function.reserved_concurrency == 0,
            terminates_loops=function.recursive_loop == "Terminate",
        )
        if found is None:
            return policy
        return policy._replace(
            retries=EVENT_RETRIES_DEFAULT if found.retry_attempts is None else found.retry_attempts,
            age_s=EVENT_AGE_S_DEFAULT if found.event_age_s is None else found.event_age_s,
            on_success=found.on_success,
            on_failure=found.on_failure,
        )

    async def deployment(self, event: Event) -> Deployment:
        """
        Return what runs an event; an alias with weights draws lots for each try.

        Raises:
            Gone: If there is no such function.
            NotReady: If it cannot be run now.
        """
        return await deployment_of(self._control, event.function, event.qualifier or LATEST)

    def target(self, arn: str) -> tuple[str, str | None] | None:
        """Return name and qualifier of one of the node's functions; None if the ARN is of something else."""
        if ":lambda:" not in arn:
            return None
        try:
            target = resolve_function(self._control.place, arn)
        except ApiError:
            return None
        if versions.lookup(self._control.state.view, target.name, target.version) is None:
            return None
        return target.name, target.qualifier

    def refusal(self, event: Event, target: str) -> str:
        """Tell why the role of an event's function may not invoke another function; empty if it may."""
        control = self._control
        view, place = control.state.view, control.place
        function = view.functions.get(event.function)
        if not self._judges or function is None:
            return ""
        need = need_to_send(view, place, function.latest.role, target)
        role = Caller(need.role, need.role)
        return refusal(view, place, role, need, context_of(role, place, control.clock.wall_ms()))

    def concurrency(self, function: str) -> int:
        """Return how many invocations of a function there may be at once."""
        return self._pool.concurrency(self._control.place.function_arn(function))
