#!/var/lang/bin/python3
"""An extension that counts a function's lines; one that is called stalled never answers."""

import http.client
import json
import os
import socket
import sys
import threading
from pathlib import Path

NAME = Path(sys.argv[0]).name
API = os.environ["AWS_LAMBDA_RUNTIME_API"]
COUNTS = {"lines": 0, "batches": 0, "largest": 0, "dropped": 0}


def serve(connection):
    stream = connection.makefile("rb")
    while stream.readline():
        length = 0
        while (line := stream.readline()) not in (b"\r\n", b""):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        body = stream.read(length)
        if NAME.startswith("stalled"):
            threading.Event().wait()
        lines = body.count(b'"type":"function"')
        COUNTS["lines"] += lines
        COUNTS["batches"] += 1
        COUNTS["largest"] = max(COUNTS["largest"], lines)
        if b"platform.logsDropped" in body[:200]:
            COUNTS["dropped"] = json.loads(body)[0]["record"]["droppedRecords"]
        new = Path(f"/tmp/{NAME}.new")
        new.write_text(json.dumps(COUNTS))
        new.replace(f"/tmp/{NAME}.json")
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


def listen(listener):
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


def main():
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=listen, args=(listener,), daemon=True).start()
    link = http.client.HTTPConnection(API)
    events = json.dumps({"events": ["INVOKE", "SHUTDOWN"]})
    link.request("POST", "/2020-01-01/extension/register", events, {"Lambda-Extension-Name": NAME})
    answer = link.getresponse()
    answer.read()
    headers = {"Lambda-Extension-Identifier": answer.headers["Lambda-Extension-Identifier"]}
    wish = {
        "schemaVersion": "2025-01-29",
        "types": ["function"],
        "buffering": {"timeoutMs": 25, "maxBytes": 1048576},
        "destination": {
            "protocol": "HTTP",
            "URI": f"http://sandbox.localdomain:{listener.getsockname()[1]}/",
        },
    }
    link.request("PUT", "/2022-07-01/telemetry", json.dumps(wish), headers)
    answer = link.getresponse()
    if answer.status != 200:
        raise SystemExit(answer.read().decode())
    answer.read()
    while True:
        link.request("GET", "/2020-01-01/extension/event/next", headers=headers)
        if json.load(link.getresponse())["eventType"] == "SHUTDOWN":
            return


main()
