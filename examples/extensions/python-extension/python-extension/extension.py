"""
An external extension with nothing but Python's standard library.

It registers for INVOKE and SHUTDOWN, says on each what it was told, and leaves when asked to.
API: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html
"""

import http.client
import json
import os
import sys

API = "/2020-01-01/extension"


class Api:
    """The Extensions API, over one connection that is kept."""

    def __init__(self, name):
        self.name = name
        self.identifier = ""
        # No time-out: `next` may take hours, and the process is frozen while it waits.
        self.connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])

    def call(self, method, path, headers, body=None):
        """Make one call; returns the answer's headers and its JSON."""
        self.connection.request(method, API + path, body=body, headers=headers)
        answer = self.connection.getresponse()
        content = answer.read()
        if answer.status != http.HTTPStatus.OK:
            sys.exit(f"[{self.name}] {method} {path} was answered with {answer.status}: {content.decode()}")
        return answer.headers, json.loads(content)

    def register(self, *events):
        """Say who we are and what we want to hear."""
        headers, function = self.call(
            "POST", "/register", {"Lambda-Extension-Name": self.name}, json.dumps({"events": events})
        )
        self.identifier = headers["Lambda-Extension-Identifier"]
        return function

    def next(self):
        """Say that we are done with the last event, and wait for the next."""
        _, event = self.call("GET", "/event/next", {"Lambda-Extension-Identifier": self.identifier})
        return event


def main(name):
    """Run until SHUTDOWN."""
    api = Api(name)
    function = api.register("INVOKE", "SHUTDOWN")
    print(f"[{name}] registered for {function['functionName']} {function['functionVersion']}", flush=True)
    while True:
        event = api.next()
        if event["eventType"] == "SHUTDOWN":
            print(f"[{name}] SHUTDOWN, reason {event['shutdownReason']}", flush=True)
            return
        print(f"[{name}] INVOKE {event['requestId']}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "python-extension")
