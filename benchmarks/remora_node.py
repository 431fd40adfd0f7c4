"""A real node, started as users start it, and functions on it, deployed through its Lambda API."""

from __future__ import annotations

import base64
import http.client
import io
import json
import signal
import subprocess
import sys
import time
import zipfile
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from children import process
from workload import HANDLER, MEMORY_MIB, RUNTIME

_REMORA = Path(sys.executable).with_name("remora")
_ACTIVE_WITHIN_S = 120


class Node:
    """
    A node that is up.

    Args:
        ready: What it said of itself.
    """

    def __init__(self, ready):
        self.pid = ready["pid"]
        self.port = urlsplit(ready["endpoint"]).port
        self.missing = ready["missing"]

    def request(self, method, path, document=None):
        """Ask the Lambda API, or the node's own."""
        link = http.client.HTTPConnection("127.0.0.1", self.port)
        try:
            link.request(method, path, None if document is None else json.dumps(document))
            answer = link.getresponse()
            body = answer.read()
        finally:
            link.close()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {body.decode()}")
        return json.loads(body)

    def deploy(self, name, task, opt=None, **members):
        """Create a function, with a layer if there is an /opt; return the path to invoke it."""
        layers = []
        if opt is not None:
            content = {"Content": {"ZipFile": _zip_of(opt)}}
            layer = self.request("POST", f"/2018-10-31/layers/{name}/versions", content)
            layers.append(layer["LayerVersionArn"])
        function = {
            "FunctionName": name,
            "Runtime": RUNTIME,
            "Handler": HANDLER,
            "Role": "arn:aws:iam::000000000000:role/bench",
            "Timeout": 60,
            "MemorySize": MEMORY_MIB,
            "Layers": layers,
            "Code": {"ZipFile": _zip_of(task)},
            **members,
        }
        self.request("POST", "/2015-03-31/functions", function)
        give_up_at = time.monotonic() + _ACTIVE_WITHIN_S
        while self.request("GET", f"/2015-03-31/functions/{name}/configuration")["State"] != "Active":
            if time.monotonic() > give_up_at:
                raise RuntimeError(f"the function {name} does not become active")
            time.sleep(0.1)
        return f"/2015-03-31/functions/{name}/invocations"


@contextmanager
def running(data, *options):
    """Run a node with its state in `data`."""
    command = [str(_REMORA), "up", "--port", "0", "--data", str(data), "--json", *options]
    with process(command, ending=signal.SIGTERM, stdout=subprocess.PIPE, text=True) as child:
        line = child.stdout.readline()
        if not line:
            raise RuntimeError(f"the node ended with status {child.wait()}")
        yield Node(json.loads(line))


def _zip_of(directory):
    """Return a directory as base64 of a zip."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(directory.rglob("*")):
            if path.is_file():
                info = zipfile.ZipInfo(str(path.relative_to(directory)))
                info.external_attr = (path.stat().st_mode & 0xFFFF) << 16
                archive.writestr(info, path.read_bytes())
    return base64.b64encode(buffer.getvalue()).decode()
