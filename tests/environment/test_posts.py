"""What the runtime posts becomes the answer, whatever else is posted in the same moment."""

import asyncio
from types import SimpleNamespace

from remora.environment.api import EnvironmentApi


class Request:
    """A request whose body has arrived; `then` is called when it is answered."""

    is_open = True
    is_oversized = False
    trailers = ()
    slot = None
    received_bytes = 1

    def __init__(self, method, path, body=b"", then=lambda headers: None):
        self.method, self.path, self.body, self._then = method, path, body, then
        self.status = 0

    def header(self, name):
        return None

    def respond(self, status, headers, body):
        self.is_open, self.status = False, status
        lines = headers.splitlines() if isinstance(headers, bytes) else [b": ".join(pair) for pair in headers]
        self._then(dict(line.split(b": ", 1) for line in lines))


def test_two_posts_in_one_step_of_the_machine(stage, run):
    """An init/error that is refused comes while the response waits for its turn."""

    async def idle(actor):
        await asyncio.Event().wait()

    async def scenario():
        async with stage({"runtime": idle}) as it:
            posts = SimpleNamespace()

            def hear(request):
                api.began(request)
                if request.is_open:
                    api.ended(request)

            def pipelined(headers):
                request_id = headers[b"Lambda-Runtime-Aws-Request-Id"]
                path = b"/2018-06-01/runtime/invocation/" + request_id + b"/response"
                posts.response = Request(b"POST", path, b"mine")
                posts.other = Request(b"POST", b"/2018-06-01/runtime/init/error", b"{}")
                hear(posts.response)
                hear(posts.other)

            invoking = asyncio.create_task(it.invoke())
            await it.marked("process.started", "runtime")
            (environment,) = [member.environment for member in it.pool._members.values()]
            api = EnvironmentApi(environment)
            hear(Request(b"GET", b"/2018-06-01/runtime/invocation/next", then=pipelined))
            assert (await invoking).payload == b"mine"
            assert (posts.response.status, posts.other.status) == (202, 403)

    run(scenario())
