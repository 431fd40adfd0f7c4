"""Run the tests that show numbered cases of the specification, and list which cases they show."""

from __future__ import annotations

import sys
from collections import defaultdict

import pytest


class CaseCollector:
    """A pytest plugin: remembers the outcome of every test that shows a case."""

    def __init__(self) -> None:
        self.cases: dict[str, list[str]] = {}
        self.outcomes: dict[str, set[str]] = defaultdict(set)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Note the cases of every collected test."""
        for item in items:
            self.cases[item.nodeid] = [str(case) for mark in item.iter_markers("case") for case in mark.args]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note how a test (or its set-up) ended."""
        if report.when == "call" or not report.passed:
            for case in self.cases.get(report.nodeid, ()):
                self.outcomes[case].add(report.outcome)


def main() -> int:
    """Run and print one line per case; the exit code is pytest's."""
    collector = CaseCollector()
    code = pytest.main(["-m", "case", "--quiet", "--no-header", *sys.argv[1:]], plugins=[collector])
    if code == pytest.ExitCode.NO_TESTS_COLLECTED:
        print("no test shows a numbered case yet")
        return 0
    for case in sorted(collector.outcomes, key=_natural):
        print(f"{case:12} {'shown' if collector.outcomes[case] == {'passed'} else 'FAILS'}")
    print(f"{len(collector.outcomes)} cases are shown by {len(collector.cases)} tests")
    return int(code)


def _natural(case: str) -> tuple[str, int]:
    family, _, number = case.rpartition("-")
    return family, int(number) if number.isdigit() else 0


if __name__ == "__main__":
    sys.exit(main())
