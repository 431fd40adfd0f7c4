"""
The main job in one go: a node, a function with two external extensions deployed through boto3, invoked cold,
warm and concurrently, its lifecycle drawn, and a shutdown that the extensions hear of.
"""

import io
import json
import subprocess
import sys
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
from botocore.config import Config

EXAMPLES = Path(__file__).parent
REMORA = Path(sys.executable).with_name("remora")
WARM, CONCURRENT = 4, 5
INVOCATIONS = 1 + WARM + CONCURRENT
ROLE = "arn:aws:iam::000000000000:role/demo"


def zip_of(directory: Path) -> bytes:
    """Pack a directory, modes of its files included."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(directory.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                archive.write(path, path.relative_to(directory))
    return buffer.getvalue()


def headline(text: str) -> None:
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}", flush=True)


def remora(*arguments: str, endpoint: str) -> None:
    subprocess.run([REMORA, *arguments, "--endpoint", endpoint], check=True)


def deploy(client) -> None:
    layers = []
    for name in ("python-extension", "shell-extension"):
        content = {"ZipFile": zip_of(EXAMPLES / "extensions" / name)}
        layer = client.publish_layer_version(LayerName=name, Content=content)
        layers.append(layer["LayerVersionArn"])
        print(f"layer     {layer['LayerVersionArn']}")
    function = client.create_function(
        FunctionName="hello",
        Runtime=f"python3.{sys.version_info.minor}",
        Handler="app.handler",
        Role=ROLE,
        Timeout=10,
        MemorySize=256,
        Layers=layers,
        Code={"ZipFile": zip_of(EXAMPLES / "hello-python")},
    )
    client.get_waiter("function_active_v2").wait(FunctionName="hello", WaiterConfig={"Delay": 1})
    print(f"function  {function['FunctionArn']}")


def invoke(client, name: str, work_ms: int = 0) -> dict:
    event = {"name": name, "work_ms": work_ms}
    return client.invoke(FunctionName="hello", Payload=json.dumps(event), LogType="Tail")


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="remora-demo-") as data:
        command = [REMORA, "up", "--port", "0", "--data", data, "--json"]
        node = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            ready = node.stdout.readline()
            if not ready:
                return node.wait()
            endpoint = json.loads(ready)["endpoint"]
            show(endpoint, node)
        finally:
            node.terminate()
            node.wait()
            node.stdout.close()
    return 0


def show(endpoint: str, node: subprocess.Popen) -> None:
    client = boto3.client(
        "lambda",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
        config=Config(max_pool_connections=10, retries={"max_attempts": 0}),
    )
    headline(f"A node is up at {endpoint}; deploying through boto3")
    deploy(client)

    headline("Cold: the environment, its extensions and the runtime are started")
    answer = invoke(client, "cold")
    print(answer["Payload"].read().decode())

    headline("Warm: four more in the same environment")
    for number in range(WARM):
        print(invoke(client, f"warm {number}")["Payload"].read().decode())

    headline("Its log")
    remora("logs", "hello", endpoint=endpoint)

    headline("Its lifecycle")
    remora("timeline", "hello", endpoint=endpoint)

    headline("Five at once: each has an environment of its own")
    with ThreadPoolExecutor(CONCURRENT) as threads:
        numbers = range(CONCURRENT)
        for answer in threads.map(lambda number: invoke(client, f"concurrent {number}", 500), numbers):
            print(answer["Payload"].read().decode())
    remora("ps", endpoint=endpoint)

    headline("Shutting the node down: what the extensions say to it")
    follower = subprocess.Popen(
        [REMORA, "logs", "hello", "--follow", "--endpoint", endpoint], stdout=subprocess.PIPE, text=True
    )
    reports = 0
    for line in follower.stdout:
        if line.startswith("REPORT"):
            reports += 1
            if reports == INVOCATIONS:
                node.terminate()
        elif "SHUTDOWN, reason" in line:
            print(line, end="", flush=True)
    follower.wait()
    node.wait()
    headline("Done: nothing is left running")


if __name__ == "__main__":
    sys.exit(main())
