"""
Requests for any operation of the Lambda API, drawn by the shapes of the model.

Most values are plausible, so that requests come far; some break a bound, a type, or every expectation.
"""

from __future__ import annotations

import base64
import io
import json
import zipfile
from typing import Any
from urllib.parse import quote, urlencode

from hypothesis import strategies as st

from remora.control.operations.offered import HANDLERS, INVOKE, INVOKE_WITH_RESPONSE_STREAM
from remora.spec.lambda_api import load

API = load()
ARN = "arn:aws:lambda:us-east-1:000000000000"
OFFERED = sorted([*HANDLERS, INVOKE, INVOKE_WITH_RESPONSE_STREAM])
DEPTH_MAX = 4
LONG = 10_000


def _zip(files: dict[str, str]) -> str:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return base64.b64encode(buffer.getvalue()).decode()


ZIPS = [_zip({"h.py": "h = print"}), _zip({}), _zip({"../up": "x"}), base64.b64encode(b"PK\5\6junk").decode()]

PLAUSIBLE: dict[str, list[Any]] = {
    "FunctionName": [
        "f",
        "f",
        "f",
        "g",
        "h",
        f"{ARN}:function:f",
        "f:1",
        "f:$LATEST",
        "000000000000:function:f",
    ],
    "LayerName": ["l", "l", "m", f"{ARN}:layer:l"],
    "Arn": [f"{ARN}:layer:l:1", f"{ARN}:layer:l:2", f"{ARN}:layer:l"],
    "LayerVersionArn": [f"{ARN}:layer:l:1", f"{ARN}:layer:m:3"],
    "Resource": [f"{ARN}:function:f", f"{ARN}:function:none"],
    "Qualifier": ["$LATEST", "1", "2", "live"],
    "VersionNumber": [1, 2, 3, 99],
    "Role": ["arn:aws:iam::000000000000:role/r"],
    "Runtime": ["python3.12", "provided.al2023", "python2.7", "cobol"],
    "Handler": ["h.h", "", "h"],
    "ZipFile": ZIPS,
    "MemorySize": [128, 127, 10_240, 10_241],
    "Timeout": [3, 0, 900, 901],
    "MaxItems": [1, 2, 50, 0, 10_000],
    "Marker": ["", "f", "bm9uZQ=="],
    "InvocationType": ["RequestResponse", "RequestResponse", "DryRun", "Event"],
    "LogType": ["Tail", "None"],
    "ClientContext": ["e30=", "e30", "bnVsbA==", "/w=="],
    "RevisionId": ["00000000-0000-0000-0000-000000000000"],
    "Architectures": [["x86_64"], ["arm64"], ["x86_64", "arm64"], []],
    "Layers": [[], [f"{ARN}:layer:l:1"], [f"{ARN}:layer:l:1"] * 2, [f"{ARN}:layer:none:1"]],
    "PackageType": ["Zip", "Zip", "Image"],
    "Name": ["live", "live", "1", "new"],
    "FunctionVersion": ["1", "$LATEST", "2", "ALL"],
    "StatementId": ["s", "s", "t"],
    "Action": ["lambda:InvokeFunction", "lambda:GetLayerVersion", "*"],
    "Principal": ["*", "000000000000", "s3.amazonaws.com", "nobody"],
    "SourceArn": ["arn:aws:s3:::bucket"],
    "Destination": [f"{ARN}:function:g", f"{ARN}:function:f", "arn:aws:sqs:us-east-1:000000000000:q", ""],
    "ResourceArn": [f"{ARN}:function:f", f"{ARN}:function:f:1", f"{ARN}:function:f:live"],
    "Policy": ['{"Statement":{"Effect":"Allow","Principal":"*","Action":"*"}}', "{", "[]"],
    "AdditionalVersionWeights": [{}, {"1": 0.5}, {"2": 0.5}, {"1": 2}],
    "S3Bucket": ["bucket", "none"],
    "S3Key": ["k"],
    "ReservedConcurrentExecutions": [0, 1, 900, 901],
    "ProvisionedConcurrentExecutions": [1, 2, 901],
    "CodeSigningConfigArn": [f"{ARN}:code-signing-config:csc-{'0' * 17}"],
    "RuntimeVersionArn": ["arn:aws:lambda:us-east-1::runtime:" + "0" * 64],
}
"""By the name of a member; other members get values by their shapes."""

texts = st.one_of(
    st.sampled_from(["a", "f", "1", "$LATEST", "live", "all", "x" * 64, "x" * 300]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)
odd_texts = st.sampled_from(
    ["", "\0", "..", "/", "é", "\U0001f600", "x" * LONG, "a\nb", "%", "a b", "{}", "﷽" * 99]
)
odd_values = st.one_of(
    odd_texts,
    st.sampled_from([
        None, True, 0, -1, 2**31, 2**63, 2**64, -(2**63) - 1, 10**400, 1.5, 1e300, -1e-300, [], {}, [[]],
        {"": {}}, [None], {"a": None}, [1, "x"], "A" * 100_000, {"k" * LONG: "v"},
    ]),
)  # fmt: skip


@st.composite
def values(draw, name, shape, depth=0):
    """A value for a member of that name and shape, as JSON has it."""
    if not draw(st.integers(0, 19)):
        return draw(odd_values)
    if name in PLAUSIBLE and draw(st.integers(0, 9)):
        return draw(st.sampled_from(PLAUSIBLE[name]))
    if shape.enum:
        return draw(st.sampled_from(shape.enum))
    match shape.kind:
        case "structure" if depth < DEPTH_MAX:
            return draw(structures(shape, depth + 1))
        case "list" if depth < DEPTH_MAX:
            element = API.shapes[shape.element]
            return draw(st.lists(values("", element, depth + 1), max_size=3))
        case "map" if depth < DEPTH_MAX:
            element = API.shapes[shape.element]
            return draw(st.dictionaries(texts, values("", element, depth + 1), max_size=3))
        case "structure" | "map":
            return {}
        case "list":
            return []
        case "blob":
            return draw(st.binary(max_size=50).map(lambda data: base64.b64encode(data).decode()))
        case "boolean":
            return draw(st.booleans())
        case "integer" | "long":
            return draw(st.sampled_from([0, 1, 2, 100, int(shape.minimum or 0), int(shape.maximum or 5)]))
        case "double" | "timestamp":
            return draw(st.floats(allow_nan=False, allow_infinity=False))
        case _:
            return draw(texts)


@st.composite
def structures(draw, shape, depth=0):
    """A structure: what must be there nearly always, the rest now and then."""
    found = {}
    for name, member in shape.members.items():
        is_there = draw(st.integers(0, 29)) if name in shape.required else not draw(st.integers(0, 3))
        if member.location == "body" and is_there:
            found[member.wire_name] = draw(values(name, API.shapes[member.shape], depth))
    return found


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else json.dumps(value)


operations = st.sampled_from(OFFERED * 10 + sorted(API.operations))


@st.composite
def requests(draw):
    """One request: method, target, headers, body."""
    operation = API.operations[draw(operations)]
    shape = operation.input
    labels, query, headers = {}, [], []
    for name, member in shape.members.items():
        if member.location == "body" or not (member.location == "uri" or draw(st.integers(0, 2)) == 0):
            continue
        value = _text(draw(values(name, API.shapes[member.shape])))
        if member.location == "uri":
            labels["{" + member.wire_name + "}"] = value
        elif member.location == "querystring":
            query.append((member.wire_name, value))
        else:
            headers.append((member.wire_name, value))
    is_raw = not draw(st.integers(0, 19))
    parts = [
        (labels[part] if is_raw else quote(labels[part], safe="")) if part in labels else part
        for part in operation.segments
    ]
    if operation.constant:
        query.append(operation.constant)
    target = "/" + "/".join(parts) + (f"?{urlencode(query)}" if query else "")
    method = operation.method if draw(st.integers(0, 29)) else draw(st.sampled_from(["PATCH", "HEAD", "PUT"]))
    if shape.payload is not None:
        body = draw(st.sampled_from([b"", b"{}", b'"\\ud800"', b"[" * 5000, b"\xff", b"1" * 500, b"NaN"]))
    elif method in ("GET", "HEAD"):
        body = b""
    else:
        body = json.dumps(draw(structures(shape))).encode()
    return method, target, headers, _damaged(draw, body)


def _damaged(draw, body):
    """Cut or change a body, seldom."""
    how = draw(st.integers(0, 29))
    if how == 0:
        return body[: draw(st.integers(0, len(body)))]
    if how == 1:
        place = draw(st.integers(0, len(body)))
        return body[:place] + draw(st.binary(max_size=8)) + body[place:]
    if how == 2:
        return b'{"FunctionName":' + b"[" * 5000
    return body
