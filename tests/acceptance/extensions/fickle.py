#!/var/lang/bin/python3
"""
An external extension whose subscriber is not to be relied upon; what it is like is told by its name.

steady: answers everything. killed: its process is killed in the second invocation and started again in the
fourth. closing: closes every other connection in the middle of a request. garbage: answers every other
request with nonsense. Over HTTP, or TCP if the name ends with `-tcp`. It prints each event's type, length
and beginning.
"""

import http.client
import json
import os
import signal
import socket
import sys
from itertools import count
from pathlib import Path

NAME = Path(sys.argv[0]).name
KIND, _, TRANSPORT = NAME.partition("-")
PORT = 4300 + sum(NAME.encode()) % 500


def say(*words):
    os.write(1, f"{NAME}: {' '.join(map(str, words))}\n".encode())


def tell(event):
    record = event["record"]
    if isinstance(record, str):
        size, begin = len(record), record[:30]
    else:
        size, begin = record.get("droppedRecords", 0), record.get("requestId", "")
    say("heard", event["type"], size, ascii(begin))


def serve_line(peer):
    with peer.makefile("rb") as lines:
        for line in lines:
            tell(json.loads(line))


def serve_requests(peer, number):
    with peer.makefile("rb") as stream:
        for turn in count(number):
            head = []
            while (line := stream.readline()).strip():
                head.append(line.lower())
            if not head:
                return
            size = int(next(line for line in head if line.startswith(b"content-length")).split(b":")[1])
            is_bad = turn % 2 == 0
            if KIND == "closing" and is_bad:
                stream.read(min(10, size))
                return
            body = stream.read(size)
            if KIND == "garbage" and is_bad:
                peer.sendall(b"\xff\x00 what?\r\n\r\n")
                return
            for event in json.loads(body):
                tell(event)
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


def serve(listener):
    """Serve in a child; returns its pid."""
    pid = os.fork()
    if pid == 0:
        for number in count():
            peer, _ = listener.accept()
            with peer:
                serve_line(peer) if TRANSPORT == "tcp" else serve_requests(peer, number)
    return pid


def listen():
    return socket.create_server(("0.0.0.0", PORT), reuse_port=True)


listener = listen()
child = serve(listener)
link = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
link.request(
    "POST",
    "/2020-01-01/extension/register",
    '{"events":["INVOKE","SHUTDOWN"]}',
    {"Lambda-Extension-Name": NAME},
)
answer = link.getresponse()
answer.read()
headers = {"Lambda-Extension-Identifier": answer.headers["Lambda-Extension-Identifier"]}
destination = {"protocol": "HTTP", "URI": f"http://sandbox.localdomain:{PORT}/"}
if TRANSPORT == "tcp":
    destination = {"protocol": "TCP", "port": PORT}
wish = {
    "schemaVersion": "2022-12-13",
    "types": ["platform", "function"],
    "buffering": {"timeoutMs": 25},
    "destination": destination,
}
link.request("PUT", "/2022-07-01/telemetry", json.dumps(wish), headers)
say("subscribed", link.getresponse().read().decode())
for number in count():
    link.request("GET", "/2020-01-01/extension/event/next", headers=headers)
    event = json.load(link.getresponse())
    if event["eventType"] == "SHUTDOWN":
        say("the end")
        break
    if KIND == "killed" and number == 1:
        listener.close()
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if KIND == "killed" and number == 3:
        listener = listen()
        child = serve(listener)
