"""The API's model: routes, parsing, constraints, errors, replies."""

from __future__ import annotations

import pytest
from botocore.loaders import Loader

from remora.spec import codec, constraints, lambda_api
from remora.spec.errors import ERRORS, ApiError
from remora.spec.shapes import read_shape

MODEL = Loader().load_service_model("lambda", "service-2")
API = lambda_api.load()


def test_every_operation_is_found_by_its_route():
    for name, operation in API.operations.items():
        segments = [b"a%2Fb" if part.startswith("{") else part.encode() for part in operation.segments]
        query = "=".join(operation.constant).encode() if operation.constant else b""
        route = API.route(operation.method.encode(), b"/" + b"/".join(segments), query)
        assert route is not None, name
        assert route.operation.name == name
        assert set(route.labels.values()) <= {b"a%2Fb"}


@pytest.mark.parametrize(
    ("query", "name"),
    [
        (b"", "ListLayers"),
        (b"find=LayerVersion&Arn=x", "GetLayerVersionByArn"),
        (b"Arn=x&find=LayerVersion", "GetLayerVersionByArn"),
        (b"find=Other", "ListLayers"),
        (b"MaxItems=1&findings=LayerVersion", "ListLayers"),
    ],
)
def test_a_constant_in_the_query_selects_the_operation(query, name):
    route = API.route(b"GET", b"/2018-10-31/layers", query)
    assert route is not None
    assert route.operation.name == name


def test_errors_look_as_the_model_says():
    shapes = MODEL["shapes"]
    for code, kind in ERRORS.items():
        name = "RequestTooLargeException" if code == "RequestEntityTooLargeException" else code
        shape = shapes.get(name)
        if shape is None:
            continue
        assert kind.status == shape["error"]["httpStatusCode"], code
        assert kind.message_member in shape["members"], code
        assert kind.has_type


def test_an_error_that_is_not_in_the_table_is_our_bug():
    with pytest.raises(AssertionError):
        ApiError("Oops", "x")


def test_error_bodies():
    assert ApiError("ValidationException", "m").body() == {"message": "m"}
    assert ApiError("ResourceNotFoundException", "m").body() == {"Type": "User", "Message": "m"}
    assert ApiError("ServiceException", "m").body() == {"Type": "Service", "Message": "m"}
    assert ApiError("AccessDeniedException", None).body() == {"Type": "User"}


SHAPES = {
    name: read_shape(name, definition)
    for name, definition in {
        "Top": {
            "type": "structure",
            "required": ["Name"],
            "members": {
                "Name": {"shape": "Name"},
                "Items": {"shape": "Items"},
                "Table": {"shape": "Table"},
                "Inner": {"shape": "Inner"},
                "Inners": {"shape": "Inners"},
                "Secret": {"shape": "Secret"},
                "Count": {"shape": "Count"},
            },
        },
        "Name": {"type": "string", "min": 2, "max": 3, "pattern": "[a-z]+|x{4}"},
        "Items": {"type": "list", "member": {"shape": "Word"}, "max": 2},
        "Word": {"type": "string", "enum": ["a", "b"]},
        "Table": {"type": "map", "key": {"shape": "Name"}, "value": {"shape": "Word"}},
        "Inner": {"type": "structure", "required": ["Size"], "members": {"Size": {"shape": "Count"}}},
        "Inners": {"type": "list", "member": {"shape": "Inner"}},
        "Secret": {"type": "string", "max": 1, "sensitive": True},
        "Count": {"type": "integer", "min": 1, "max": 9},
    }.items()
}
FULL = "failed to satisfy constraint: Member must"


@pytest.mark.parametrize(
    ("value", "texts"),
    [
        ({"Name": "ab"}, []),
        ({}, [f"Value null at 'name' {FULL} not be null"]),
        (
            {"Name": "A"},
            [
                f"Value 'A' at 'name' {FULL} have length greater than or equal to 2",
                f"Value 'A' at 'name' {FULL} satisfy regular expression pattern: [a-z]+|x{{4}}",
            ],
        ),
        ({"Name": "xxxx"}, [f"Value 'xxxx' at 'name' {FULL} have length less than or equal to 3"]),
        (
            {"Name": "ab\n"},
            [f"Value 'ab\n' at 'name' {FULL} satisfy regular expression pattern: [a-z]+|x{{4}}"],
        ),
        (
            {"Name": "ab", "Items": ["a", "c", "b"]},
            [
                f"Value '[a, c, b]' at 'items' {FULL} have length less than or equal to 2",
                (
                    f"Value '[a, c, b]' at 'items' {FULL} satisfy constraint: "
                    "[Member must satisfy enum value set: [a, b], Member must not be null]"
                ),
            ],
        ),
        (
            {"Name": "ab", "Items": [None]},
            [
                (
                    f"Value '[null]' at 'items' {FULL} satisfy constraint: "
                    "[Member must satisfy enum value set: [a, b], Member must not be null]"
                )
            ],
        ),
        (
            {"Name": "ab", "Table": {"1": "a"}},
            [
                (
                    "Value '{1=a}' at 'table' failed to satisfy constraint: "
                    "Map keys must satisfy constraint: [Member must have length less than or equal to 3, "
                    "Member must have length greater than or equal to 2, "
                    "Member must satisfy regular expression pattern: [a-z]+|x{4}, Member must not be null]"
                )
            ],
        ),
        (
            {"Name": "ab", "Table": {"ab": "z"}},
            [
                (
                    "Value '{ab=z}' at 'table' failed to satisfy constraint: "
                    "Map value must satisfy constraint: "
                    "[Member must satisfy enum value set: [a, b], Member must not be null]"
                )
            ],
        ),
        ({"Name": "ab", "Inner": {}}, [f"Value null at 'inner.size' {FULL} not be null"]),
        (
            {"Name": "ab", "Inner": {"Size": 0}},
            [f"Value '0' at 'inner.size' {FULL} have value greater than or equal to 1"],
        ),
        (
            {"Name": "ab", "Inners": [{"Size": 1}, {"Size": 10}]},
            [f"Value '10' at 'inners.2.member.size' {FULL} have value less than or equal to 9"],
        ),
        ({"Name": "ab", "Inners": [None]}, [f"Value null at 'inners.1.member' {FULL} not be null"]),
        ({"Name": "ab", "Secret": "pass"}, [f"Value at 'secret' {FULL} have length less than or equal to 1"]),
    ],
)
def test_violations_are_worded_as_by_aws(value, texts):
    if not texts:
        constraints.check(SHAPES, SHAPES["Top"], value)
        return
    with pytest.raises(ApiError) as caught:
        constraints.check(SHAPES, SHAPES["Top"], value)
    count = "1 validation error" if len(texts) == 1 else f"{len(texts)} validation errors"
    assert caught.value.code == "ValidationException"
    assert caught.value.message == f"{count} detected: {'; '.join(texts)}"


def test_classic_limits_stand_where_the_model_is_wider():
    assert API.shapes["MemorySize"].maximum == 10_240
    assert API.shapes["Timeout"].maximum == 900
    assert API.shapes["EphemeralStorageSize"].maximum == 10_240
    for name in ("MemorySize", "Timeout", "EphemeralStorageSize"):
        assert MODEL["shapes"][name]["max"] >= API.shapes[name].maximum


def test_a_reply_with_an_unknown_member_is_our_bug():
    operation = API.operations["GetFunction"]
    with pytest.raises(AssertionError, match="Nonsense"):
        API.answer(operation, {"Nonsense": 1})
    with pytest.raises(AssertionError, match="Nonsense"):
        API.answer(operation, {"Configuration": {"Nonsense": 1}})


def test_replies_go_where_the_model_says():
    answer = API.answer(
        API.operations["Invoke"],
        {"StatusCode": 200, "Payload": b"1", "ExecutedVersion": "1", "FunctionError": None},
    )
    assert answer == (200, (("X-Amz-Executed-Version", "1"),), b"1")
    answer = API.answer(API.operations["GetFunction"], {"Tags": {"a": "b"}, "Concurrency": None})
    assert answer == (200, (), b'{"Tags":{"a":"b"}}')
    assert API.answer(API.operations["DeleteFunction"], {"StatusCode": 204}) == (204, (), b"")


def test_repeated_and_empty_query_values():
    assert codec.parse_query(b"a=1&a=2&b=&c=%C3%A9+x") == {"a": ["1", "2"], "b": [""], "c": ["é x"]}
    route = API.route(b"DELETE", b"/2017-03-31/tags/arn:x", b"tagKeys=a&tagKeys=b")
    assert route is not None
    found = codec.parse_request(
        API.shapes,
        route.operation.input,
        labels={"Resource": "arn:x"},
        query=codec.parse_query(b"tagKeys=a&tagKeys=b"),
        header=lambda _: None,
        body=b"",
    )
    assert found == {"Resource": "arn:x", "TagKeys": ["a", "b"]}
