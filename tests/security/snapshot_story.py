"""
Lives in the world of `network_story`: a version with SnapStart is connected with the internet in its init.

Run by `test_networks.py` in new network and mount namespaces; prints as JSON what two of its environments say
of that connection, and of new ones.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from network_story import INTERNET, make_world
from tests.acceptance.nodes import Node
from tests.acceptance.packages import zip_of

PORT = 7
SERVE = f"""
import socket, threading
def serve(peer, number):
    with peer:
        while peer.recv(100):
            peer.sendall(str(number).encode())
server = socket.create_server(("", {PORT}))
print("up", flush=True)
for number in range(1, 100):
    threading.Thread(target=serve, args=(server.accept()[0], number), daemon=True).start()
"""
FUNCTION = f"""
import socket, time
def ask(link):
    try:
        link.sendall(b"who am I?")
        return link.recv(100).decode()
    except OSError as error:
        return type(error).__name__
def connect():
    return socket.create_connection(({INTERNET!r}, {PORT}), 20)
link = connect()
first = ask(link)
def handler(event, context):
    time.sleep(5)
    began = time.monotonic()
    return {{"first": first, "old": ask(link), "waited_s": time.monotonic() - began, "new": ask(connect())}}
"""


def tell(data: Path, runtime: str) -> object:
    node = Node(data)
    try:
        client = node.client
        client.create_function(
            FunctionName="f",
            Runtime=runtime,
            Role="arn:aws:iam::000000000000:role/r",
            Handler="app.handler",
            Code={"ZipFile": zip_of({"app.py": FUNCTION})},
            SnapStart={"ApplyOn": "PublishedVersions"},
            Timeout=60,
        )
        client.get_waiter("function_active_v2").wait(FunctionName="f")
        client.publish_version(FunctionName="f")
        while client.get_function_configuration(FunctionName="f", Qualifier="1")["State"] == "Pending":
            time.sleep(0.1)
        with ThreadPoolExecutor(2) as threads:
            asked = [threads.submit(node.invoke, "f", Qualifier="1") for _ in range(2)]
            return [each.result().payload for each in asked]
    finally:
        node.terminate()


if __name__ == "__main__":
    place, runtime = Path(sys.argv[1]), sys.argv[2]
    thread = make_world(place, "plain")
    inside = f"--net=/proc/{os.getpid()}/task/{thread}/ns/net"
    words = ["nsenter", inside, sys.executable, "-c", SERVE]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as echo:
        assert echo.stdout is not None
        try:
            assert echo.stdout.readline() == "up\n"
            sys.stdout.write(json.dumps(tell(place / "data", runtime)))
        finally:
            echo.kill()
