"""A function that prints as fast as it is told, and says what its subscribers have got."""

import json
import sys
import time
from pathlib import Path

CHUNK = 500
LINE = "a line of a function that says what it does, some sixty bytes\n"


def handler(event, _):
    began = time.monotonic()
    rate, count = event.get("rate", 1e9), event.get("lines", 0)
    for printed in range(0, count, CHUNK):
        due = began + printed / rate
        time.sleep(max(0.0, due - time.monotonic()))
        sys.stdout.write(LINE * min(CHUNK, count - printed))
        sys.stdout.flush()
    took = time.monotonic() - began
    time.sleep(event.get("wait", 0))
    counts = {}
    if event.get("report"):
        counts = {path.stem: json.loads(path.read_text()) for path in Path("/tmp").glob("*.json")}
    return {"took": took, "counts": counts}
