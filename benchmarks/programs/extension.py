"""An external extension that does nothing: registers for INVOKE and SHUTDOWN, and asks for the next."""

import http.client
import json
import os
import sys

link = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
name = sys.argv[0].rpartition("/")[2]
link.request(
    "POST",
    "/2020-01-01/extension/register",
    json.dumps({"events": ["INVOKE", "SHUTDOWN"]}),
    {"Lambda-Extension-Name": name},
)
answer = link.getresponse()
answer.read()
identity = {"Lambda-Extension-Identifier": answer.headers["Lambda-Extension-Identifier"]}
while True:
    link.request("GET", "/2020-01-01/extension/event/next", headers=identity)
    event = json.loads(link.getresponse().read())
    if event["eventType"] == "SHUTDOWN":
        break
