#!/var/lang/bin/python3
"""An external extension that subscribes, over TCP or HTTP as LISTEN_OVER says, and prints what it hears."""

import http.client
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socketserver import StreamRequestHandler, TCPServer

REPORTS = threading.Semaphore(0)
"""How many invocations were reported that the end need not wait for."""
PATIENCE_S = 1.5


def say(text):
    os.write(1, f"{text}\n".encode())


def hear(event):
    say(f"heard: {json.dumps(event)}")
    if event["type"] == "platform.report":
        REPORTS.release()


class Lines(StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            hear(json.loads(line))


class Requests(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        for event in json.loads(self.rfile.read(int(self.headers["Content-Length"]))):
            hear(event)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


if os.environ["LISTEN_OVER"] == "TCP":
    server = TCPServer(("sandbox.localdomain", 4243), Lines)
    destination = {"protocol": "TCP", "port": 4243}
else:
    server = HTTPServer(("sandbox.localdomain", 4243), Requests)
    destination = {"protocol": "HTTP", "URI": "http://sandbox.localdomain:4243/"}
threading.Thread(target=server.serve_forever, daemon=True).start()
link = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
name = {"Lambda-Extension-Name": Path(sys.argv[0]).name}
link.request("POST", "/2020-01-01/extension/register", '{"events":["INVOKE","SHUTDOWN"]}', name)
answer = link.getresponse()
answer.read()
headers = {"Lambda-Extension-Identifier": answer.headers["Lambda-Extension-Identifier"]}
wish = {
    "schemaVersion": "2025-01-29",
    "types": ["platform", "function"],
    "buffering": {"timeoutMs": 25},
    "destination": destination,
}
link.request("PUT", "/2022-07-01/telemetry", json.dumps(wish), headers)
say(f"subscribed: {link.getresponse().read().decode()}")
invocations = 0
while True:
    link.request("GET", "/2020-01-01/extension/event/next", headers=headers)
    if json.load(link.getresponse())["eventType"] == "SHUTDOWN":
        break
    invocations += 1
for _ in range(invocations):  # what came over TCP may still wait to be read
    REPORTS.acquire(timeout=PATIENCE_S)
say("the end")
