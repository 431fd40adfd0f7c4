#!/usr/bin/env python3
"""An external extension that does what the variable ACTORS says for its name, and prints what it hears."""

import http.client
import json
import os
import signal
import sys
import time
from pathlib import Path

NAME = Path(sys.argv[0]).name
DOES = json.loads(os.environ.get("ACTORS", "{}")).get(NAME, {})


def say(text):
    sys.stdout.write(f"{NAME}: {text}\n")
    sys.stdout.flush()


def ask(method, path, body=None, **headers):
    connection.request(method, f"/2020-01-01/extension/{path}", body, headers)
    response = connection.getresponse()
    return response.headers, json.loads(response.read() or b"{}")


def on_invoke():
    time.sleep(DOES.get("after_invoke_s", 0))
    mark = Path("/tmp/crashed") if DOES.get("once") else None
    if "exit_on_invoke" in DOES and not (mark and mark.exists()):
        if mark:
            mark.touch()
        os._exit(DOES["exit_on_invoke"])
    if "write_on_invoke" in DOES:
        Path(DOES["write_on_invoke"]).write_text(NAME)


signal.signal(signal.SIGTERM, lambda *_: say("SIGTERM"))
time.sleep(DOES.get("before_register_s", 0))
if "exit_before_register" in DOES:
    os._exit(DOES["exit_before_register"])
connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
events = DOES.get("events", ["INVOKE", "SHUTDOWN"])
headers, body = ask(
    "POST", "register", json.dumps({"events": events}), **{"Lambda-Extension-Name": DOES.get("name", NAME)}
)
identifier = {"Lambda-Extension-Identifier": headers["Lambda-Extension-Identifier"]}
say(f"registered {json.dumps({'id': headers['Lambda-Extension-Identifier'], **body})}")
if DOES.get("tell"):
    own = {"argv": sys.argv, "stdin": sys.stdin.read(), "environ": dict(os.environ)}
    Path("/tmp", NAME).write_text(json.dumps(own))
time.sleep(DOES.get("after_register_s", 0))
if "init_error" in DOES:
    ask(
        "POST",
        "init/error",
        "{}",
        **identifier,
        **{"Lambda-Extension-Function-Error-Type": "Extension.Broken"},
    )
    os._exit(DOES["init_error"])
while True:
    headers, event = ask("GET", "event/next", **identifier)
    say(json.dumps(event))
    if event["eventType"] == "INVOKE":
        on_invoke()
    elif not DOES.get("ignore_shutdown"):
        sys.exit(DOES.get("exit_on_shutdown", 0))
