"""
Sends messages to other AWS services: SQS, SNS, EventBridge and S3, through botocore, in threads.

Nothing leaves the machine unless the operator names an endpoint: a node with real credentials in its
environment does not write to real queues by accident.

Source: control-plane specification, B.10; AWS Lambda Developer Guide, "Capturing records of Lambda
asynchronous invocations".
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import get_session

from remora.events.base import Condition, DeliveryError
from remora.kit.aws import new_client
from remora.kit.threads import in_daemon
from remora.spec.limits import EVENT_PAYLOAD_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Callable

    from remora.events.base import Delivery
    from remora.kit.clock import Clock

SENT_AT_ONCE: Final = 8
_SERVICES: Final = {"sqs": "sqs", "sns": "sns", "events": "events", "s3": "s3"}


class Target(NamedTuple):
    """An ARN taken apart."""

    service: str
    region: str
    account: str
    resource: str


class AwsSender:
    """
    Sends messages.

    Args:
        endpoint: Base URL of all services together, `http://127.0.0.1:5000`; `aws` for AWS itself; empty if
            nothing may be sent.
        region: Where targets are whose ARN does not say it.
        clock: The node's clock.
        new_id: Makes a UUID.
    """

    def __init__(self, endpoint: str, region: str, *, clock: Clock, new_id: Callable[[], str]) -> None:
        self._endpoint = endpoint
        self._region = region
        self._clock = clock
        self._new_id = new_id
        self._session = get_session()
        self._clients: dict[tuple[str, str], Any] = {}
        self._queue_urls: dict[str, str] = {}
        self._turn = asyncio.Semaphore(SENT_AT_ONCE)

    def __repr__(self) -> str:
        return f"<AwsSender to {self._endpoint or 'nowhere'}>"

    async def send(self, delivery: Delivery) -> None:
        """
        Send one message.

        Raises:
            DeliveryError: If it could not be sent.

        **Cancellation:** it may be sent all the same.
        """
        target = parse(delivery.target)
        send = {
            "sqs": self._to_sqs,
            "sns": self._to_sns,
            "events": self._to_event_bus,
            "s3": self._to_bucket,
        }.get(target.service)
        if len(delivery.body) > EVENT_PAYLOAD_BYTES_MAX and target.service != "s3":
            raise self._failed(delivery, f"it is larger than {EVENT_PAYLOAD_BYTES_MAX} bytes")
        if send is None:
            raise self._failed(delivery, "there is no such function on this node, and no such service")
        if not self._endpoint:
            raise self._failed(
                delivery,
                "no endpoint is known: start the node with --aws-endpoint URL (or aws for AWS itself)",
            )
        try:
            async with self._turn:
                await in_daemon(self._send, send, target, delivery)
        except (ClientError, BotoCoreError, OSError) as error:
            self._queue_urls.pop(delivery.target, None)
            raise self._failed(delivery, str(error)) from error

    # --- in threads ---------------------------------------------------------------------------------------

    def _send(
        self, send: Callable[[Any, Target, Delivery], None], target: Target, delivery: Delivery
    ) -> None:
        send(self._client(target), target, delivery)

    def _client(self, target: Target) -> Any:
        region = target.region or self._region
        client = self._clients.get((target.service, region))
        if client is None:
            client = new_client(self._session, _SERVICES[target.service], region, self._endpoint)
            self._clients[target.service, region] = client
        return client

    def _to_sqs(self, client: Any, target: Target, delivery: Delivery) -> None:
        url = self._queue_urls.get(delivery.target)
        if url is None:
            found = client.get_queue_url(QueueName=target.resource, QueueOwnerAWSAccountId=target.account)
            url = self._queue_urls[delivery.target] = found["QueueUrl"]
        client.send_message(
            QueueUrl=url, MessageBody=_text(delivery), MessageAttributes=_attributes(delivery)
        )

    def _to_sns(self, client: Any, _: Target, delivery: Delivery) -> None:
        client.publish(
            TopicArn=delivery.target, Message=_text(delivery), MessageAttributes=_attributes(delivery)
        )

    def _to_event_bus(self, client: Any, _: Target, delivery: Delivery) -> None:
        how = "Success" if delivery.condition == Condition.SUCCESS.value else "Failure"
        reply = client.put_events(
            Entries=[
                {
                    "Source": "lambda",
                    "DetailType": f"Lambda Function Invocation Result - {how}",
                    "Resources": [delivery.target, delivery.function_arn],
                    "Detail": _text(delivery),
                    "EventBusName": delivery.target,
                }
            ]
        )
        for entry in reply.get("Entries", ()):
            if entry.get("ErrorCode"):
                raise self._failed(delivery, f"{entry['ErrorCode']}: {entry.get('ErrorMessage', '')}")

    def _to_bucket(self, client: Any, target: Target, delivery: Delivery) -> None:
        at = datetime.fromtimestamp(self._clock.wall_ms() / 1000, UTC)
        key = f"aws/lambda/async/{delivery.function}/{at:%Y/%m/%d/%Y-%m-%dT%H.%M.%S}-{self._new_id()}"
        client.put_object(Bucket=target.resource, Key=key, Body=delivery.body, ContentType="application/json")

    def _failed(self, delivery: Delivery, reason: str) -> DeliveryError:
        what = "the dead letter" if delivery.kind == "dead-letter" else "the record"
        return DeliveryError(
            f"{what} of an event of {delivery.function} was not sent to {delivery.target}: {reason}"
        )


def parse(arn: str) -> Target:
    """Take the ARN of a target apart; what is none has no service."""
    parts = arn.split(":", 5)
    if len(parts) != 6 or parts[0] != "arn":
        return Target("", "", "", "")
    return Target(parts[2], parts[3], parts[4], parts[5])


def _text(delivery: Delivery) -> str:
    return delivery.body.decode(errors="replace")


def _attributes(delivery: Delivery) -> dict[str, dict[str, str]]:
    """Return the attributes of a dead letter as SQS and SNS take them; a record has none."""
    return {
        name: {"DataType": "Number" if name == "ErrorCode" else "String", "StringValue": value}
        for name, value in delivery.attributes.items()
    }
