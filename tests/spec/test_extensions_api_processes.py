"""
"Using the Lambda Extensions API to create extensions": what only real processes can show.
"""

import asyncio
import json

import pytest

pytestmark = pytest.mark.slow
EXTENSION = 'Extension("INVOKE", "SHUTDOWN").follow()'
READ_FILE = "serve(lambda event: open(json.loads(event), 'rb').read())"
WITHHELD = {
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_XRAY_CONTEXT_MISSING",
    "AWS_XRAY_DAEMON_ADDRESS",
    "LAMBDA_RUNTIME_DIR",
    "LAMBDA_TASK_ROOT",
    "_AWS_XRAY_DAEMON_ADDRESS",
    "_AWS_XRAY_DAEMON_PORT",
    "_HANDLER",
}


def failed(answer, error_type, message):
    text = f"RequestId: {answer.request_id} Error: {message}"
    assert json.loads(answer.payload) == {"errorType": error_type, "errorMessage": text}
    return True


# --- start ------------------------------------------------------------------------------------------------


@pytest.mark.case("EXT-31")
@pytest.mark.parametrize(
    ("program", "reason", "logged"),
    [
        (None, "permission denied", "PermissionDenied"),
        ("#!/no/such/interpreter\n", "no such file or directory", "UnknownError"),
        ("\0no program", "exec format error", "UnknownError"),
    ],
)
def test_a_file_that_cannot_be_executed_fails_init(real, run, program, reason, logged):
    async def scenario():
        async with real("serve()", {"a": program, "b": EXTENSION}) as it:
            message = f"fork/exec /opt/extensions/a: {reason}"
            assert failed(await it.invoke(), "Extension.LaunchError", message)
            line = f"EXTENSION\tName: a\tState: LaunchError\tEvents: []\tError Type: {logged}"
            assert (await it.log()).count(line) == 2
            # those after it are not started
            assert not [name for kind, name in it.marks() if kind == "process.started"]

    run(scenario())


@pytest.mark.case("EXT-29")
def test_directories_are_passed_over_and_links_are_not(real, run, tmp_path):
    (tmp_path / "opt/extensions/d").mkdir(parents=True)
    (tmp_path / "opt/extensions/c").symlink_to("a")

    async def scenario():
        more = {"opt/extensions/d/x": None}
        async with real("serve()", {"b": EXTENSION, "a": EXTENSION}, more=more) as it:
            assert (await it.invoke(b"1")).payload == b"1"
            started = [name for kind, name in it.marks() if kind == "process.started"]
            assert started == ["a", "b", "c", "runtime"]

    run(scenario())


@pytest.mark.case("EXT-33")
@pytest.mark.parametrize(
    ("end", "message"),
    [
        ("sys.exit(1)", "exit status 1"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "signal: segmentation fault"),
        ("os.abort()", "signal: aborted"),
    ],
)
def test_an_end_before_registration_is_a_crash(real, run, end, message):
    async def scenario():
        async with real("serve()", {"ext.sh": end}) as it:
            assert failed(await it.invoke(), "Extension.Crash", message)

    run(scenario())


@pytest.mark.case("EXT-41")
@pytest.mark.case("EXT-42")
def test_what_an_extension_is_given(real, run):
    tell = """
    with open("/proc/self/cmdline") as file:
        line = file.read().split("\\0")[:-1]
    told = {
        "argv": line[line.index("-BIS") + 1:],
        "stdin": sys.stdin.read(),
        "cwd": os.getcwd(),
        "group": os.getpgid(0) == os.getpid(),
        "env": dict(os.environ),
    }
    with open("/tmp/told", "w") as file:
        json.dump(told, file)
    say("hello from the extension")
    Extension().follow()
    """

    async def scenario():
        async with real(READ_FILE, {"ext.sh": tell}, variables={"MINE": "1", "_HANDLER": "mine"}) as it:
            told = json.loads((await it.invoke(b'"/tmp/told"')).payload)
            assert told["argv"] == ["/opt/extensions/ext.sh"]
            assert told["stdin"] == ""
            assert told["cwd"] == "/"
            assert told["group"] is True
            env = told["env"]
            assert not WITHHELD & env.keys()
            assert env["MINE"] == "1"
            assert env["AWS_REGION"] == "us-east-1"
            assert env["AWS_LAMBDA_FUNCTION_NAME"] == "f"
            assert env["AWS_LAMBDA_INITIALIZATION_TYPE"] == "on-demand"
            assert env["AWS_LAMBDA_RUNTIME_API"].startswith("127.0.0.1:")
            for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
                assert env[name]
            assert "hello from the extension" in await it.log()

    run(scenario())


@pytest.mark.case("EXT-43")
def test_files_are_shared_both_ways(real, run):
    extension = """
    inside = Extension("INVOKE")
    with open("/tmp/from-extension", "w") as file:
        file.write("1")
    inside.next()
    while not os.path.exists("/tmp/from-function"):
        time.sleep(0.001)
    say("seen")
    inside.follow()
    """
    function = """
    def handle(event):
        open("/tmp/from-function", "w").close()
        return open("/tmp/from-extension", "rb").read()
    serve(handle)
    """

    async def scenario():
        async with real(function, {"ext.sh": extension}) as it:
            assert (await it.invoke()).payload == b"1"
            await it.logged("seen")

    run(scenario())


# --- what people build ------------------------------------------------------------------------------------


def test_ten_extensions_and_two_threads_within_one_runtime(real, run):
    runtime = """
    import threading
    for name in ("in-a", "in-b"):
        threading.Thread(target=Extension("INVOKE", name=name).follow, daemon=True).start()
    serve()
    """

    async def scenario():
        async with real(runtime, {f"ex-{number}": EXTENSION for number in range(8)}) as it:
            for number in range(3):
                assert (await it.invoke(b"%d" % number)).payload == b"%d" % number
                await it.logged("REPORT RequestId")
            lines = [line for line in await it.log() if line.startswith("EXTENSION")]
            assert len(lines) == 10
            assert all("\tState: Ready\t" in line for line in lines)
            done = [name for kind, name in it.marks() if kind == "extension.done"]
            assert len(done) == 30

    run(scenario())


def test_an_adapter_asks_for_invocations_in_place_of_the_runtime(real, run):
    # Given a runtime that is a web server and knows nothing of Lambda, and an extension between
    server = """
    with socket.create_server(("127.0.0.1", 8080)) as listener:
        while True:
            connection, _ = listener.accept()
            with connection:
                request = connection.recv(65536)
                body = request.partition(b"\\r\\n\\r\\n")[2].upper()
                connection.sendall(b"HTTP/1.1 200 OK\\r\\n\\r\\n" + body)
    """
    adapter = """
    import threading
    inside = Extension("SHUTDOWN")
    threading.Thread(target=lambda: (inside.next(), os._exit(0)), daemon=True).start()
    def forward(event):
        return call("POST", "/", body=event, api="127.0.0.1:8080")[2]
    while True:
        try:
            call("GET", "/", api="127.0.0.1:8080")
            break
        except ConnectionRefusedError:
            time.sleep(0.005)
    serve(forward)
    """

    async def scenario():
        async with real(server, {"adapter": adapter}) as it:
            assert (await it.invoke(b'"abc"')).payload == b'"ABC"'
            assert (await it.invoke(b'"def"')).payload == b'"DEF"'
            assert len(it.timelines.all()) == 1

    run(scenario())


def test_an_adapter_that_asks_too_early_is_refused(stage, run):
    """There is no runtime until all extensions have registered; AWS's emulator drops the connection then."""
    all_asked, answers = asyncio.Event(), []

    async def adapter(actor):
        await actor.register("SHUTDOWN")
        following = asyncio.create_task(actor.follow())
        answers.append(await actor.next())
        all_asked.set()
        await runs.wait()
        serving = asyncio.create_task(actor.serve())
        await following
        serving.cancel()

    async def late(actor):
        await all_asked.wait()
        await actor.extend("SHUTDOWN")

    async def runtime(actor):
        runs.set()
        await asyncio.Event().wait()

    runs = asyncio.Event()

    async def scenario():
        async with stage({"extension:a": adapter, "extension:b": late, "runtime": runtime}) as it:
            assert (await it.invoke(b"1")).payload == b"1"
            assert (await it.invoke(b"2")).payload == b"2"

    run(scenario())
    (answer,) = answers
    assert answer.status == 403
    text = "State transition from Absent to Ready failed for runtime. Error: State transition is not allowed"
    assert answer.json == {"errorMessage": text, "errorType": "InvalidStateTransition"}


def test_a_proxy_stands_between_the_runtime_and_its_api(real, run):
    # Given an extension that passes the Runtime API on, and a wrapper that points the runtime to it
    proxy = """
    import threading
    def pump(source, target):
        while data := source.recv(65536):
            target.sendall(data.replace(b'"secret"', b'"******"'))
        target.shutdown(socket.SHUT_WR)
    def listen(listener):
        host, port = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")
        while True:
            near, _ = listener.accept()
            far = socket.create_connection((host, int(port)))
            threading.Thread(target=pump, args=(near, far), daemon=True).start()
            threading.Thread(target=pump, args=(far, near), daemon=True).start()
    listener = socket.create_server(("127.0.0.1", 9009))
    threading.Thread(target=listen, args=(listener,), daemon=True).start()
    Extension("INVOKE", "SHUTDOWN").follow()
    """
    wrapper = "#!/bin/sh\nAWS_LAMBDA_RUNTIME_API=127.0.0.1:9009 exec /opt/runtime\n"

    async def scenario():
        runtime = {"opt/runtime": "say('by ' + os.environ['AWS_LAMBDA_RUNTIME_API'])\nserve()"}
        async with real(wrapper, {"proxy": proxy}, more=runtime) as it:
            assert (await it.invoke(b'"secret"')).payload == b'"******"'
            assert (await it.invoke(b'"public"')).payload == b'"public"'
            assert "by 127.0.0.1:9009" in await it.log()

    run(scenario())
