"""A node that keeps sandboxes ready: functions run in them as in any other, and nothing is left."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from .conftest import running
from .nodes import eventually
from .packages import PROBE, RUNTIME, zip_directory

pytestmark = pytest.mark.slow


def test_environments_in_spare_sandboxes_are_as_good_as_others(data):
    with running(data) as node:
        name = node.create(zip_directory(PROBE), Runtime=RUNTIME, Handler="app.handler")

        def many(count):
            with ThreadPoolExecutor(count) as threads:
                return list(
                    threads.map(lambda n: node.invoke(name, {"echo": n, "sleep_s": 0.4}), range(count))
                )

        # Given a sandbox that was made when the function became active, and nobody has wished for any yet
        directories = data / "environments"
        assert node.environments(name) == []
        eventually(lambda: len(list(directories.iterdir())) == 1)

        # Then two at once get it and another one, and more are made
        assert [answer.payload["echo"] for answer in many(2)] == [0, 1]
        eventually(lambda: len(list(directories.iterdir())) > len(node.environments(name)))

        # When more are needed, then they answer, and a configuration change does not get an old sandbox
        assert [answer.payload["echo"] for answer in many(4)] == [0, 1, 2, 3]
        node.client.update_function_configuration(FunctionName=name, MemorySize=512)
        node.wait("function_updated_v2", name)
        answer = node.invoke(name, {"environ": 1})
        assert answer.payload["environ"]["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "512"
