"""What hangs on a function, a version, an alias or a layer version: policies, concurrency, events, URLs."""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """
    Who may use a function, one of its versions or aliases, or a layer version.

    The revision of a function's policy is that of the function, version or alias; a layer's has its own.
    """

    statements: tuple[dict[str, Any], ...]
    """Statements as AWS writes them, `Sid`, `Effect`, `Principal`, `Action`, `Resource`, `Condition`."""
    revision_id: str = ""
    """Of a layer version's policy; empty for functions."""


class ProvisionedConcurrency(msgspec.Struct, frozen=True, kw_only=True):
    """
    How many environments of a version, or of what an alias stands for, are to be ready ahead.

    Source: shape PutProvisionedConcurrencyConfigRequest of the Lambda API model. What has become of it is not
    kept: after a start of the node everything is provisioned anew.
    """

    function: str
    qualifier: str
    """A version's number or an alias's name."""
    requested: int
    last_modified: str


class EventInvokeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """
    What becomes of asynchronous invocations by one qualifier.

    Source: shape FunctionEventInvokeConfig of the Lambda API model.
    """

    function: str
    qualifier: str
    """`$LATEST`, a version's number or an alias's name, as events are invoked with."""
    last_modified_ms: int
    """Milliseconds since 1970."""
    retry_attempts: int | None = None
    """Further tries after a function error, 0 to 2; None: 2."""
    event_age_s: int | None = None
    """How old an event may become, seconds; None: six hours."""
    on_success: str | None = None
    """ARN of a destination; None: nowhere."""
    on_failure: str | None = None


class FunctionUrl(msgspec.Struct, frozen=True, kw_only=True):
    """
    An address under which a function, or one of its aliases, answers HTTP.

    Source: shape FunctionUrlConfig of the Lambda API model.
    """

    function: str
    qualifier: str
    """`$LATEST` or an alias's name."""
    url_id: str
    """First label of the host name: 32 letters and digits."""
    auth_type: Literal["NONE", "AWS_IAM"]
    cors: dict[str, Any] | None = None
    """Shape Cors; None if there is none."""
    invoke_mode: Literal["BUFFERED", "RESPONSE_STREAM"] = "BUFFERED"
    created: str
    """`2026-01-31T23:59:59.123456Z`."""
    last_modified: str
