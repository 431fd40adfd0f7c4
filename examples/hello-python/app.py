"""The smallest function that shows what a function can see: its event, its context, its log."""

import json
import os
import time


def handler(event, context):
    """Greet whoever the event names, after some work if it asks for that."""
    event = event if isinstance(event, dict) else {}
    name = event.get("name", "world")
    time.sleep(event.get("work_ms", 0) / 1000)
    left_ms = context.get_remaining_time_in_millis()
    print(json.dumps({"request": context.aws_request_id, "event": event, "remaining_ms": left_ms}))
    return {
        "greeting": f"Hello, {name}!",
        "function": context.function_name,
        "version": context.function_version,
        "memory_mb": int(context.memory_limit_in_mb),
        "region": os.environ.get("AWS_REGION"),
        "remaining_ms": left_ms,
    }
