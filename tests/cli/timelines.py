"""Timelines that the tests draw."""

from remora.cli.waterfall import Event, Timeline

REQUEST = "8a1c0e5e-0000-4000-8000-00000000000{}"


def timeline(*events: Event) -> Timeline:
    ordered = sorted(events, key=lambda event: event.at_us)
    return Timeline("3f2a9c0d", "hello", 1_700_000_000_000, ordered)


def init(*, end_us: int = 78_310) -> list[Event]:
    """Two external extensions and one internal one."""
    return [
        Event(8_100, "sandbox.created"),
        Event(8_150, "init.started", detail="init"),
        Event(8_300, "process.started", "collector"),
        Event(8_400, "process.started", "audit.sh"),
        Event(12_000, "extension.registered", "audit.sh"),
        Event(12_500, "extension.ready", "audit.sh"),
        Event(31_000, "extension.registered", "collector"),
        Event(31_200, "process.started", "runtime"),
        Event(44_000, "extension.ready", "collector"),
        Event(60_000, "extension.registered", "profiler"),
        Event(61_000, "extension.ready", "profiler"),
        Event(78_300, "runtime.ready"),
        Event(end_us, "init.ended", detail="success"),
    ]


def invoke(at_us: int, number: int = 1) -> list[Event]:
    """An invocation of 2.1 ms that is answered after 0.4 ms."""
    request_id = REQUEST.format(number % 10)
    return [
        Event(at_us, "invoke.started", request_id=request_id),
        Event(at_us + 300, "extension.done", "audit.sh", request_id),
        Event(at_us + 420, "runtime.responded", request_id=request_id),
        Event(at_us + 500, "extension.done", "profiler", request_id),
        Event(at_us + 530, "runtime.done", request_id=request_id),
        Event(at_us + 2_100, "extension.done", "collector", request_id),
        Event(at_us + 2_110, "invoke.ended", request_id=request_id, detail="success"),
    ]


def frozen(start_us: int, end_us: int) -> list[Event]:
    return [Event(start_us, "environment.frozen"), Event(end_us, "environment.thawed")]


def shutdown(at_us: int) -> list[Event]:
    return [
        Event(at_us, "shutdown.started", detail="spindown"),
        Event(at_us + 5, "runtime.terminated"),
        Event(at_us + 3_200, "process.exited", "runtime", detail="signal: terminated"),
        Event(at_us + 3_210, "extension.notified", "collector"),
        Event(at_us + 3_215, "extension.notified", "audit.sh"),
        Event(at_us + 9_000, "process.exited", "audit.sh", detail="exit status 0"),
        Event(at_us + 12_000, "process.exited", "collector", detail="exit status 0"),
        Event(at_us + 12_010, "shutdown.ended"),
    ]


def whole_life() -> Timeline:
    return timeline(
        *init(),
        *invoke(78_400, 1),
        *frozen(85_600, 1_285_600),
        *invoke(1_285_650, 2),
        *frozen(1_292_800, 2_492_800),
        *shutdown(2_492_850),
    )


def failing_init() -> Timeline:
    """An extension crashes in init, and again when init is repeated within the first invocation."""
    return timeline(
        Event(7_000, "sandbox.created"),
        Event(7_010, "init.started", detail="init"),
        Event(7_100, "process.started", "bad"),
        Event(19_000, "process.exited", "bad", detail="exit status 17"),
        Event(19_100, "init.ended", detail="error"),
        Event(19_200, "shutdown.started", detail="failure"),
        Event(19_900, "shutdown.ended"),
        Event(20_000, "invoke.started", request_id=REQUEST.format(1)),
        Event(20_010, "init.started", detail="invoke"),
        Event(20_100, "process.started", "bad"),
        Event(30_000, "process.exited", "bad", detail="exit status 17"),
        Event(30_100, "init.ended", detail="error"),
        Event(30_200, "invoke.ended", request_id=REQUEST.format(1), detail="error"),
    )


def timed_out() -> Timeline:
    """The function never answers; its processes are killed."""
    return timeline(
        *init(),
        Event(78_400, "invoke.started", request_id=REQUEST.format(1)),
        Event(78_800, "extension.done", "audit.sh", REQUEST.format(1)),
        Event(3_078_400, "invoke.ended", request_id=REQUEST.format(1), detail="timeout"),
        Event(3_078_410, "shutdown.started", detail="timeout"),
        Event(3_078_420, "runtime.terminated"),
        Event(3_378_500, "process.exited", "runtime", detail="signal: killed"),
        Event(3_378_510, "extension.notified", "collector"),
        Event(3_378_510, "extension.notified", "audit.sh"),
        Event(3_379_000, "process.exited", "collector", detail="exit status 0"),
        Event(3_379_100, "process.exited", "audit.sh", detail="exit status 0"),
        Event(3_379_200, "shutdown.ended"),
    )


def living() -> Timeline:
    """In the middle of its second invocation."""
    return timeline(
        *init(),
        *invoke(78_400, 1),
        Event(95_000, "invoke.started", request_id=REQUEST.format(2)),
        Event(95_300, "runtime.responded", request_id=REQUEST.format(2)),
        Event(95_400, "runtime.done", request_id=REQUEST.format(2)),
    )


def many() -> Timeline:
    events = init()
    for number in range(1, 61):
        events += invoke(80_000 + 5_000 * number, number)
    return timeline(*events, Event(400_000, "environment.frozen"))
