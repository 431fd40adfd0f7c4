"""Other AWS services, played by moto's server, and what tests do with them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from moto.server import ThreadedMotoServer

from .nodes import eventually, unique

CLIENTS: list[Any] = []


@contextmanager
def moto_services() -> Iterator[str]:
    """Serve; gives the endpoint of SQS, SNS, EventBridge and S3."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    while CLIENTS:
        CLIENTS.pop().close()
    server.stop()


def client(service: str, endpoint: str) -> Any:
    made = boto3.client(
        service, "us-east-1", endpoint_url=endpoint, aws_access_key_id="any", aws_secret_access_key="any"
    )
    CLIENTS.append(made)
    return made


class Queue:
    """A queue of moto's SQS."""

    def __init__(self, endpoint: str) -> None:
        self._client = client("sqs", endpoint)
        self._url = self._client.create_queue(QueueName=unique("queue"))["QueueUrl"]
        found = self._client.get_queue_attributes(QueueUrl=self._url, AttributeNames=["QueueArn"])
        self.arn = found["Attributes"]["QueueArn"]

    def message(self) -> dict[str, Any]:
        """Wait for a message."""

        def receive() -> Any:
            got = self._client.receive_message(
                QueueUrl=self._url, MessageAttributeNames=["All"], WaitTimeSeconds=1
            )
            return got.get("Messages")

        (message,) = eventually(receive)
        return message

    def record(self) -> dict[str, Any]:
        return json.loads(self.message()["Body"])

    def all_records(self) -> list[dict[str, Any]]:
        """Take what is there now."""
        got = self._client.receive_message(QueueUrl=self._url, MaxNumberOfMessages=10, WaitTimeSeconds=1)
        messages = got.get("Messages", ())
        for message in messages:
            self._client.delete_message(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"])
        return [json.loads(message["Body"]) for message in messages]
