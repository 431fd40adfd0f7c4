"""
An internal extension: a thread inside the runtime's own process that hears every INVOKE.

Python imports this module at start because `/opt/wrapper` put its directory into PYTHONPATH. Registration
must be over before the runtime asks for its first event, so it happens here; the thread then waits for events
for as long as the runtime lives. Internal extensions hear no SHUTDOWN.
API: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html
"""

import http.client
import json
import os
import sys
import threading
from pathlib import Path

NAME = "wrapper-extension"
API = "/2020-01-01/extension"


def call(connection, method, path, headers, body=None):
    """Make one call; returns the answer's headers and its JSON."""
    connection.request(method, API + path, body=body, headers=headers)
    answer = connection.getresponse()
    content = answer.read()
    if answer.status != http.HTTPStatus.OK:
        raise RuntimeError(f"{method} {path} was answered with {answer.status}: {content.decode()}")
    return answer.headers, json.loads(content)


def follow(connection, identifier):
    """Print a line for every invocation, until the process ends."""
    headers = {"Lambda-Extension-Identifier": identifier}
    while True:
        _, event = call(connection, "GET", "/event/next", headers)
        print(f"[{NAME}] {event['eventType']} {event['requestId']}", flush=True)


def start():
    """Register and begin to follow."""
    connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    headers, function = call(
        connection, "POST", "/register", {"Lambda-Extension-Name": NAME}, json.dumps({"events": ["INVOKE"]})
    )
    print(f"[{NAME}] registered for {function['functionName']}", flush=True)
    arguments = (connection, headers["Lambda-Extension-Identifier"])
    threading.Thread(target=follow, args=arguments, name=NAME, daemon=True).start()


def leave_no_trace():
    """Take our directory out of the paths: the function must find what it would find without us."""
    here = str(Path(__file__).parent)
    sys.path[:] = [path for path in sys.path if path != here]
    rest = [path for path in os.environ.get("PYTHONPATH", "").split(":") if path and path != here]
    if rest:
        os.environ["PYTHONPATH"] = ":".join(rest)
    else:
        os.environ.pop("PYTHONPATH", None)


leave_no_trace()
if "_HANDLER" in os.environ:  # else this is some other Python that the function started
    start()
