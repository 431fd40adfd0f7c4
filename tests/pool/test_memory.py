from remora.pool.memory import UNKNOWN, memory_left


def test_the_narrowest_bound_counts(tmp_path):
    assert memory_left(tmp_path) == UNKNOWN
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 1000 kB\nMemAvailable: 400 kB\n")
    assert memory_left(tmp_path) == 400 * 1024
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("max\n")
    assert memory_left(tmp_path) == 400 * 1024
    (group / "memory.max").write_text("300000\n")
    (group / "memory.current").write_text("100000\n")
    assert memory_left(tmp_path) == 200_000


def test_this_machine_has_some_left():
    assert 0 < memory_left() <= UNKNOWN
