"""
Requests and replies against botocore's own reading of the model, in both directions.

What botocore lays out by the model, the node reads back as it was; what the node lays out, botocore reads
back as it was. Every reply that any test of this directory gets is checked by the fixture's client as well.
"""

from __future__ import annotations

import io
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from botocore import parsers, serialize
from botocore.loaders import Loader
from botocore.model import ServiceModel
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remora.control.operations.offered import HANDLERS, INVOKE, INVOKE_WITH_RESPONSE_STREAM
from remora.spec import constraints, lambda_api

MODEL = ServiceModel(Loader().load_service_model("lambda", "service-2"), "lambda")
API = lambda_api.load()
OFFERED = sorted({*HANDLERS, INVOKE, INVOKE_WITH_RESPONSE_STREAM})
DEPTH_MAX = 3
ANY = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF), min_size=1, max_size=12)
HEADER = st.text("abcXYZ012-_=+/", min_size=1, max_size=12)
few = settings(
    max_examples=5, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


def texts(shape, location):
    if shape.enum:
        return st.sampled_from(shape.enum)
    if shape.regex is not None:
        found = st.from_regex(shape.regex, fullmatch=True, alphabet=st.characters(codec="ascii"))
    else:
        found = HEADER if location == "header" else ANY
    least = max(int(shape.minimum or 0), 1 if location == "uri" else 0)
    most = min(int(shape.maximum or 200), 200)
    if shape.regex is None and least > 12:
        found = st.text("ab", min_size=least, max_size=most)
    return found.filter(lambda text: least <= len(text) <= most and text == text.strip())


def values(name, location="body", depth=0):
    """Values of a shape that keep every constraint."""
    shape = API.shapes[name]
    least, most = int(shape.minimum or 0), int(shape.maximum or 10**6)
    match shape.kind:
        case "structure":
            return structures(shape, depth + 1)
        case "list":
            element = values(shape.element, location, depth + 1)
            return st.lists(element, min_size=max(least, 1), max_size=min(most, max(least, 1) + 1))
        case "map":
            key, element = values(shape.key, location, depth + 1), values(shape.element, location, depth + 1)
            return st.dictionaries(
                key, element, min_size=max(least, 1), max_size=min(most, max(least, 1) + 1)
            )
        case "blob":
            return st.binary(max_size=20)
        case "boolean":
            return st.booleans()
        case "integer" | "long":
            return st.integers(least, most)
        case "double":
            return st.sampled_from([float(least), float(most), 0.5])
        case "timestamp":
            return st.integers(0, 2**31).map(float)
        case _:
            return texts(shape, location)


def structures(shape, depth=0):
    required, optional = {}, {}
    for name, member in shape.members.items():
        if member.location == "statusCode" or (
            API.shapes[member.shape].kind == "structure" and depth > DEPTH_MAX
        ):
            continue
        wanted = required if name in shape.required or member.location == "uri" else optional
        wanted[name] = values(member.shape, member.location, depth)
    return st.fixed_dictionaries(required, optional=optional)


def sent(operation, request):
    """Lay out a request as botocore does; return what goes on the wire."""
    serializer = serialize.create_serializer("rest-json", include_validation=True)
    laid = serializer.serialize_to_request(request, MODEL.operation_model(operation))
    parts = urlsplit(laid["url_path"])
    query = urlencode(laid["query_string"], doseq=True) if laid["query_string"] else ""
    query = "&".join(each for each in (parts.query, query) if each)
    body = laid["body"]
    body = body.read() if hasattr(body, "read") else body.encode() if isinstance(body, str) else body
    headers = {name.lower().encode(): str(value).encode() for name, value in laid["headers"].items()}
    return laid["method"].encode(), parts.path.encode(), query.encode(), headers, body or b""


@pytest.mark.slow
@pytest.mark.parametrize("operation", OFFERED)
def test_a_request_is_read_as_botocore_wrote_it(operation):
    shape = API.operations[operation].input

    @few
    @given(request=structures(shape))
    def check(request: dict[str, Any]) -> None:
        constraints.check(API.shapes, shape, request)
        method, path, query, headers, body = sent(operation, request)
        route = API.route(method, path, query)
        assert route is not None
        assert route.operation.name == operation
        found = API.parse(route, query, headers.get, body)
        if shape.payload is not None:
            found = {**found, shape.payload: found.get(shape.payload, b"")}
            request = {shape.payload: b"", **request}
        assert found == request

    check()


def is_status(member: Any) -> bool:
    return member.serialization.get("location") == "statusCode"


@pytest.mark.slow
@pytest.mark.parametrize("operation", [name for name in OFFERED if name in HANDLERS])
def test_a_reply_is_read_by_botocore_as_it_was_written(operation):
    known, model = API.operations[operation], MODEL.operation_model(operation)
    if known.output is None:
        assert API.answer(known, {}).body == b""
        return
    factory = parsers.ResponseParserFactory()
    factory.set_parser_defaults(timestamp_parser=float)
    parser = factory.create_parser("rest-json")

    @few
    @given(reply=structures(known.output))
    def check(reply: dict[str, Any]) -> None:
        answer = API.answer(known, reply)
        if answer.status == 204:
            return
        raw = {"status_code": answer.status, "headers": dict(answer.headers), "body": answer.body}
        found = parser.parse(raw, model.output_shape)
        del found["ResponseMetadata"]
        # The status is the answer's own, whatever the reply says.
        status = {name for name, member in model.output_shape.members.items() if is_status(member)}
        written = {name: value for name, value in reply.items() if name not in status}
        assert {name: value for name, value in found.items() if name not in status} == written

    check()


def test_the_body_of_a_request_may_be_a_stream():
    # What botocore leaves to the HTTP client to read is read by `sent`, too.
    request = {"FunctionName": "f", "Payload": io.BytesIO(b"{}")}
    assert sent("Invoke", request)[4] == b"{}"
