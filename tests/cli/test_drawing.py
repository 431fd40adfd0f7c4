"""What a waterfall looks like: `golden/*.txt`; `REMORA_GOLDEN=write` makes them anew."""

import importlib.util
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import pytest
from rich.console import Console

from remora.cli.drawing import Bill, console_for, draw
from remora.cli.waterfall import Event, Timeline

HERE = Path(__file__).parent


def _timelines() -> ModuleType:
    spec = importlib.util.spec_from_file_location("remora_test_timelines", HERE / "timelines.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


T = _timelines()


def drawn(timeline: Timeline, bills: Sequence[Bill] = (), *, width: int = 80, encoding: str = "utf-8") -> str:
    buffer = io.BytesIO()
    stream = io.TextIOWrapper(buffer, encoding=encoding)
    draw(timeline, Console(file=stream, width=width, color_system=None, highlight=False), bills)
    stream.flush()
    return buffer.getvalue().decode(encoding)


@pytest.mark.parametrize("make", [T.whole_life, T.failing_init, T.timed_out, T.living, T.many])
def test_waterfalls_look_as_agreed(make: Callable[[], Timeline]) -> None:
    golden = HERE / "golden" / f"{make.__name__}.txt"
    text = drawn(make())
    if os.environ.get("REMORA_GOLDEN") == "write":
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [80, 100, 120])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    for make in (T.whole_life, T.failing_init, T.timed_out, T.living, T.many):
        assert max(len(line) for line in drawn(make(), width=width).splitlines()) <= width


def test_a_terminal_without_unicode_gets_plain_characters() -> None:
    text = drawn(T.whole_life(), encoding="ascii")
    assert "runtime            ####*==" in text


def test_names_cannot_steer_the_terminal() -> None:
    timeline = T.timeline(
        Event(0, "sandbox.created"), Event(1, "init.started"), Event(2, "process.started", "\x1b[2Jevil\n")
    )
    text = drawn(timeline)
    assert "?[2Jevil?" in text
    assert "\x1b" not in text


def test_names_of_any_width_keep_the_columns() -> None:
    timeline = T.timeline(
        Event(0, "sandbox.created"),
        Event(1, "init.started"),
        Event(2, "process.started", "拡張機能の名前がとても長い場合"),
        Event(9_000, "process.exited", "拡張機能の名前がとても長い場合", detail="exit status 1"),
        Event(9_000, "init.ended", detail="error"),
    )
    assert "9.0 ms  exit status 1" in drawn(timeline)


def test_bills_are_told_one_by_one_and_of_many_the_mean() -> None:
    cold = Bill("success", 3.61, 79.1, 128, 10_000_000, 83, 0.010375, 3.729e-07)
    warm = Bill("success", 4.2, None, 128, 10_485_760, 5, 0.000625, 2.104e-07)
    one = drawn(T.many(), [cold]).splitlines()
    assert one[-2:] == [
        "what invocations cost      duration       init     billed     memory USD per 1M",
        "  invoke 1                   3.6 ms    79.1 ms      83 ms      10 MB     0.3729",
    ]
    many = drawn(T.many(), [cold] + 7 * [warm]).splitlines()
    assert [line[2:10].strip() for line in many[-6:]] == [
        *(f"invoke {n}" for n in (1, 2, 3, 7, 8)),
        "mean of",
    ]
    assert many[-1] == "  mean of 8                                       14.8 ms                0.2307"
    assert many[-2].split()[2:] == ["4.2", "ms", "-", "5", "ms", "10", "MB", "0.2104"]


def test_an_empty_timeline_says_so() -> None:
    assert "nothing has happened" in drawn(T.timeline())


def test_output_that_is_no_terminal_is_eighty_columns_without_colour() -> None:
    stream = io.StringIO()
    console = console_for(stream)
    draw(T.whole_life(), console)
    assert console.width == 80
    assert "\x1b" not in stream.getvalue()
