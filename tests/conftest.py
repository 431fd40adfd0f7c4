"""What every test gets: the cases of the specification that it shows go with its report."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for mark in item.iter_markers("case"):
            for case in mark.args:
                item.user_properties.append(("case", (case, mark.kwargs.get("partly", ""))))
