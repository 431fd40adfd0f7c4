from remora.kit.clock import Clock, SystemClock
from remora.testing.clock import ManualClock


def test_the_system_clock_never_goes_back() -> None:
    clock: Clock = SystemClock()
    readings = [clock.monotonic_us() for _ in range(100)]
    assert readings == sorted(readings)


def test_the_wall_clock_counts_milliseconds_since_1970() -> None:
    assert SystemClock().wall_ms() > 1_700_000_000_000


def test_a_manual_clock_moves_only_when_told() -> None:
    clock = ManualClock(wall_ms=1_000)
    assert (clock.monotonic_us(), clock.wall_ms()) == (0, 1_000)
    clock.advance_us(2_500)
    assert (clock.monotonic_us(), clock.wall_ms()) == (2_500, 1_002)
