"""The vocabulary of asynchronous invocations, and what the queue needs from the rest of the node."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import msgspec

from remora.spec.limits import EVENT_AGE_S_DEFAULT, EVENT_RETRIES_DEFAULT

if TYPE_CHECKING:
    from remora.pool.base import Deployment, InvokeRequest, InvokeResult


class Condition(Enum):
    """How an event ended, in the words of destination records."""

    SUCCESS = "Success"
    RETRIES_EXHAUSTED = "RetriesExhausted"
    EVENT_AGE_EXCEEDED = "EventAgeExceeded"
    ZERO_RESERVED = "ZeroReservedConcurrency"
    RECURSION = "RecursiveInvocation"


class Event(msgspec.Struct, frozen=True):
    """
    An asynchronous invocation as it was accepted, but for its payload.

    Args:
        request_id: The same for every try, UUID.
        function: Bare name.
        qualifier: As invoked; None if there was none.
        invoked_arn: The function's ARN exactly as invoked.
        accepted_ms: When, milliseconds since 1970.
        trace_id: Value of `X-Amzn-Trace-Id` as the function gets it; empty if there was none.
    """

    request_id: str
    function: str
    qualifier: str | None
    invoked_arn: str
    accepted_ms: int
    trace_id: str = ""


class Progress(msgspec.Struct, frozen=True):
    """
    How far an event has come; kept, so that a node that starts again goes on from there.

    Args:
        starts: How often the function was begun to be run.
        errors: How often it failed; a try that was cut off by the end of the node does not count.
        delays: How often in a row it was throttled, or the system failed.
        due_ms: Not to be tried before, milliseconds since 1970.
    """

    starts: int = 0
    errors: int = 0
    delays: int = 0
    due_ms: int = 0


class Policy(NamedTuple):
    """
    What is configured for an event's function and qualifier, as it is now.

    Args:
        retries: Further tries after a function error.
        age_s: How old an event may become, seconds.
        on_success: ARN of a destination; None: nowhere.
        on_failure: ARN of a destination; None: nowhere.
        dead_letter: ARN of the version's dead-letter target; None: there is none.
        is_blocked: True if nothing is ever to run: the function's reserved concurrency is 0.
        terminates_loops: True if an event that goes round in circles ends.
    """

    retries: int = EVENT_RETRIES_DEFAULT
    age_s: int = EVENT_AGE_S_DEFAULT
    on_success: str | None = None
    on_failure: str | None = None
    dead_letter: str | None = None
    is_blocked: bool = False
    terminates_loops: bool = True


class Delivery(msgspec.Struct, frozen=True):
    """
    A message that is owed to a target.

    Args:
        kind: A destination gets the record, a dead-letter target the event itself.
        target: ARN.
        function: Bare name of the function that ran.
        invoked_arn: Its ARN as invoked, for metrics.
        function_arn: Its qualified ARN.
        body: What is sent.
        condition: How the event ended.
        attributes: Of a dead letter: RequestID, ErrorCode, ErrorMessage.
        trace_id: As in `Event`, of the one that ended.
    """

    kind: Literal["destination", "dead-letter"]
    target: str
    function: str
    invoked_arn: str
    function_arn: str
    body: bytes
    condition: str
    attributes: dict[str, str] = {}
    trace_id: str = ""


class Gone(Exception):  # noqa: N818 - what happened to it
    """The function, or what the qualifier stood for, does not exist any more."""


class NotReady(Exception):  # noqa: N818 - the word of the API
    """The function cannot be run now; it may be later."""


class DeliveryError(Exception):
    """A message could not be sent: what was attempted, on what, and what to do."""


class Functions(Protocol):
    """What the queue asks about functions; answers may differ from one call to the next."""

    def policy(self, event: Event) -> Policy:
        """
        Return what is configured for an event.

        Raises:
            Gone: If there is no such function.
        """

    async def deployment(self, event: Event) -> Deployment:
        """
        Return what runs an event.

        Raises:
            Gone: If there is no such function.
            NotReady: If it cannot be run now.
        """

    def target(self, arn: str) -> tuple[str, str | None] | None:
        """Return name and qualifier of one of the node's functions; None if the ARN is of something else."""

    def refusal(self, event: Event, target: str) -> str:
        """Tell why the role of an event's function may not invoke another function; empty if it may."""

    def new_id(self) -> str:
        """Return a fresh request id, a UUID."""

    def concurrency(self, function: str) -> int:
        """Return how many invocations of a function there may be at once."""


class EventPool(Protocol):
    """Who runs invocations."""

    async def invoke(self, deployment: Deployment, request: InvokeRequest) -> InvokeResult:
        """
        Run one invocation.

        Raises:
            Throttled: If too many are running.
            PoolError: If no environment could be made.
        """


class Sender(Protocol):
    """Who sends messages to other AWS services."""

    async def send(self, delivery: Delivery) -> None:
        """
        Send one message.

        Raises:
            DeliveryError: If it could not be sent.

        **Cancellation:** it may be sent all the same.
        """
