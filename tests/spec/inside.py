"""What programs of these tests begin with inside a sandbox: the two APIs in a few words, on bare sockets."""

import json
import os
import signal
import socket
import sys
import time

__all__ = ["Extension", "call", "next_invocation", "on_sigterm", "respond", "say", "serve", "sys", "time"]


def call(method, path, headers=None, body=b"", api=None):
    host, port = (api or os.environ["AWS_LAMBDA_RUNTIME_API"]).split(":")
    lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        head, _, payload = b"".join(iter(lambda: connection.recv(65536), b"")).partition(b"\r\n\r\n")
    status, *fields = head.decode().split("\r\n")
    answered = dict(field.split(": ", 1) for field in fields)
    return int(status.split()[1]), {name.lower(): value for name, value in answered.items()}, payload


def next_invocation():
    _, headers, event = call("GET", "/2018-06-01/runtime/invocation/next")
    return headers["lambda-runtime-aws-request-id"], event


def respond(request_id, body):
    call("POST", f"/2018-06-01/runtime/invocation/{request_id}/response", body=body)


def serve(handler=lambda event: event):
    while True:
        request_id, event = next_invocation()
        respond(request_id, handler(event))


class Extension:
    def __init__(self, *events, name=None):
        named = {"Lambda-Extension-Name": name or sys.argv[0].rpartition("/")[2]}
        body = json.dumps({"events": events}).encode()
        _, headers, _ = call("POST", "/2020-01-01/extension/register", named, body)
        self.identity = {"Lambda-Extension-Identifier": headers["lambda-extension-identifier"]}

    def next(self):
        return json.loads(call("GET", "/2020-01-01/extension/event/next", self.identity)[2])

    def follow(self):
        while (event := self.next())["eventType"] == "INVOKE":
            pass
        return event


def say(text):
    os.write(1, f"{text}\n".encode())


def on_sigterm(action):
    signal.signal(signal.SIGTERM, lambda *_: action())
