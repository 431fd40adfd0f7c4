"""A real node is killed again and again while events flow: each comes to its end all the same."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from .leftovers import leftovers
from .nodes import eventually
from .packages import RUNTIME, zip_of

pytestmark = pytest.mark.slow

CODE = zip_of(
    {
        "app.py": "def handler(event, context):\n"
        "    print('RUN ' + context.aws_request_id)\n"
        "    if event['number'] % 3 == 0:\n"
        "        raise ValueError('no')\n"
    }
)
KILLS = 8
SEED = 11


def test_a_node_that_is_killed_again_and_again_loses_nothing(data, start, services, queue):
    dice = random.Random(SEED)
    arguments = ("--event-pace", "0.01", "--concurrency", "4", "--aws-endpoint", services)
    node = start(data, *arguments)
    node.create(CODE, FunctionName="f", Runtime=RUNTIME, Handler="app.handler")
    targets = {how: {"Destination": queue.arn} for how in ("OnSuccess", "OnFailure")}
    node.client.put_function_event_invoke_config(FunctionName="f", DestinationConfig=targets)
    accepted: dict[str, int] = {}
    for _ in range(KILLS):
        for number in range(dice.randrange(4, 12)):
            payload = json.dumps({"number": number}).encode()
            got = node.client.invoke(FunctionName="f", InvocationType="Event", Payload=payload)
            accepted[got["ResponseMetadata"]["RequestId"]] = number
        node.kill()
        node = start(data, *arguments)
    records: dict[str, list[dict[str, Any]]] = {}

    def are_all_there() -> bool:
        for record in queue.all_records():
            records.setdefault(record["requestContext"]["requestId"], []).append(record)
        return len(records) == len(accepted)

    eventually(are_all_there)
    assert set(records) == set(accepted)
    for request_id, found in records.items():
        # A message that a kill cut off may be sent again; nothing else happens twice.
        assert len(found) <= 2
        assert found[0]["requestPayload"] == {"number": accepted[request_id]}
        context = found[0]["requestContext"]
        fails = accepted[request_id] % 3 == 0
        assert context["condition"] == ("RetriesExhausted" if fails else "Success")
        assert (3 if fails else 1) <= context["approximateInvokeCount"] <= 3 + KILLS
    assert node.terminate() == 0
    assert leftovers(data) == []
