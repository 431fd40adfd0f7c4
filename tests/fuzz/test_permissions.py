"""Random requests, asked what permissions they need: an answer or a refusal, never anything else."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from tests.control.conftest import _run_node

from remora.control.permissions.functions import needs_of_lambda
from remora.control.permissions.neighbours import needs_of_neighbour
from remora.spec.errors import ApiError

from . import shapes
from .endurance import examples
from .test_neighbours import requests


def exchange_of(method, target, headers, body):
    path, _, query = target.partition("?")
    given_headers = [(name.lower().encode(), value.encode()) for name, value in headers]
    return SimpleNamespace(
        method=method.encode(),
        path=path.encode("utf-8", "surrogatepass"),
        query=query.encode("utf-8", "surrogatepass"),
        headers=given_headers,
        trailers=(),
        body=body,
        slot=None,
        header=lambda name: dict(given_headers).get(name),
    )


@pytest.fixture(scope="module")
def control(tmp_path_factory):
    with _run_node(Path(tmp_path_factory.mktemp("data"))) as node:
        node.create("f", Tags={"team": "a"})
        node.layer("l")
        yield node.control


def check(needs):
    assert needs
    for need in needs:
        service, _, action = need.action.partition(":")
        assert service
        assert action == action.strip()
        assert isinstance(need.resource, str)


@pytest.mark.slow
@examples(500)
@given(request=shapes.requests())
def test_needs_of_the_lambda_api(control, request):
    exchange = exchange_of(*request)
    exchange.slot = control.api.route(exchange.method, exchange.path, exchange.query)
    with suppress(ApiError):
        check(asyncio.run(needs_of_lambda(control, exchange)))


@pytest.mark.slow
@examples(500)
@given(request=requests)
def test_needs_of_the_neighbours(control, request):
    method, target, service, headers, body = request
    exchange = exchange_of(method, target, headers.items(), body)
    for name in (service, "monitoring", "logs"):
        check(asyncio.run(needs_of_neighbour(control, exchange, name)))
