"""What tests do to boto3's clients."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from botocore.response import StreamingBody

if TYPE_CHECKING:
    from botocore.client import BaseClient


def read_at_once(client: BaseClient) -> BaseClient:
    """
    Let a client of Lambda read each answer of Invoke as it comes, and return the client.

    Who looks only at the status of an answer leaves its body unread, and the connection with it.
    """
    client.meta.events.register("after-call.lambda.Invoke", _read)
    return client


def _read(parsed: dict[str, Any], **_: Any) -> None:
    if "Payload" in parsed:
        content = parsed["Payload"].read()
        parsed["Payload"] = StreamingBody(io.BytesIO(content), len(content))
