"""The node of the control plane's tests, with stacks."""

from __future__ import annotations

from tests.control.conftest import _running, guarded, node

__all__ = ["_running", "guarded", "node"]
