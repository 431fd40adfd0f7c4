"""
The words and limits of the Telemetry API and the Logs API.

Source: "Lambda Telemetry API reference", "Using the Lambda Logs API", and the OpenAPI files published with
them; what those leave open is in the telemetry-api specification, sections 2, 5 and 6.
"""

from __future__ import annotations

from typing import Final

V1: Final = "2022-07-01"
V2: Final = "2022-12-13"
V3: Final = "2025-01-29"
LOGS_V1: Final = "2020-08-15"
LOGS_V2: Final = "2021-03-18"
VERSIONS: Final = (LOGS_V1, LOGS_V2, V1, V2, V3)
"""Every schema of events."""

CATEGORIES: Final = ("platform", "function", "extension")
"""What can be subscribed to."""
EVENT_WORDS: Final = (
    "platform.start",
    "platform.end",
    "platform.report",
    "platform.fault",
    "platform.extension",
    "platform.logsDropped",
    "platform.logsSubscription",
    "platform.telemetrySubscription",
    "platform.runtimeDone",
    "platform.initStart",
    "platform.initRuntimeDone",
    "platform.initReport",
    "platform.restoreStart",
    "platform.restoreRuntimeDone",
    "platform.restoreReport",
    *CATEGORIES,
)
"""The words that the service's parser knows, in its order."""

HOSTS: Final = ("sandbox.localdomain", "sandbox")
API_PORT: Final = 9_001
"""The port of the environment's own APIs: nobody else can listen there."""
PORT_MAX: Final = 65_535
TCP_PORT_MIN: Final = 1_025

ITEMS: Final = (1_000, 10_000)
"""Least and greatest `maxItems`."""
ITEMS_DEFAULT: Final = 10_000
BYTES: Final = (262_144, 1_048_576)
"""Least and greatest `maxBytes`."""
BYTES_DEFAULT: Final = 262_144
TIMEOUT_MS: Final = (25, 30_000)
"""Least and greatest `timeoutMs`."""
TIMEOUT_MS_DEFAULT: Final = 1_000

SUBSCRIPTIONS_MAX: Final = 32
"""Subscriptions of one environment (own bound: each has a queue)."""

DROPPED: Final = (
    "Some logs were dropped because the downstream consumer is slower than the logs production rate"
)
"""Why records are missing, in the words of the service."""
