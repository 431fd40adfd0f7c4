"""The function of every subject: answers at once, unless its event says how many seconds to wait."""

import time


def handler(event, _context):
    time.sleep(event.get("wait_s", 0))
    return {"ok": True, "n": event.get("n")}
