"""
What is said to the environment's two APIs: requests right, wrong and torn, on connections that end badly.

Identifiers are known only while an environment runs: texts have places for them, filled in by `Conversation`.
"""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

REQUEST_ID, IDENTIFIER = b"{request_id}", b"{identifier}"
STRANGER = b"01234567-89ab-4def-8123-456789abcdef"
HEADER_BYTES = 1024 * 1024

methods = st.sampled_from(
    [b"GET", b"POST", b"PUT"] * 4 + [b"DELETE", b"HEAD", b"PATCH", b"OPTIONS", b"QUERY"]
)
verbs = st.sampled_from([b"/response", b"/error", b"", b"/", b"/next", b"/response/", b"/response?a=b"])
invocations = st.builds(
    lambda identifier, verb: b"/2018-06-01/runtime/invocation/" + identifier + verb,
    st.sampled_from([REQUEST_ID, REQUEST_ID, STRANGER, b"", b"%00", b"next", b"\xff", b"a" * 5000]),
    verbs,
)
routes = st.sampled_from([
    (b"GET", b"/2018-06-01/runtime/invocation/next"),
    (b"POST", b"/2018-06-01/runtime/invocation/" + REQUEST_ID + b"/response"),
    (b"POST", b"/2018-06-01/runtime/invocation/" + REQUEST_ID + b"/error"),
    (b"POST", b"/2018-06-01/runtime/init/error"),
    (b"GET", b"/2018-06-01/ping"),
    (b"GET", b"/2018-06-01/runtime/restore/next"),
    (b"POST", b"/2018-06-01/runtime/restore/error"),
    (b"GET", b"/2021-04-23/credentials"),
    (b"POST", b"/2020-01-01/extension/register"),
    (b"GET", b"/2020-01-01/extension/event/next"),
    (b"POST", b"/2020-01-01/extension/init/error"),
    (b"POST", b"/2020-01-01/extension/exit/error"),
    (b"PUT", b"/2020-08-15/logs"),
    (b"PUT", b"/2022-07-01/telemetry"),
])  # fmt: skip
odd_paths = st.sampled_from([
    b"/", b"*", b"//", b"/2018-06-01", b"/2020-01-01/extension/", b"http://x/2018-06-01/ping", b"http://",
    b"/2018-06-01/runtime/restore/next", b"/2018-06-01/ping?", b"/?" + b"q" * 9000, b"/\xc3\xa4", b"/a b",
])  # fmt: skip

NEST = 5000
TO_HTTP = b'{"protocol":"HTTP","URI":"http://sandbox.localdomain:{port}/x?y"}}'
TO_TCP = b'{"protocol":"TCP","port":{port}}}'
documents = st.sampled_from([
    b"", b"{}", b"null", b"[]", b'"', b'{"a":', b"\xff\xfe", b'{"events":["INVOKE"]}',
    b'{"events":["INVOKE","SHUTDOWN"]}', b'{"events":[]}', b'{"events":["OTHER"]}', b'{"events":"INVOKE"}',
    b'{"events":["\\ud800"]}', b'{"events":null,"configurationKeys":["k"]}',
    b'{"events":[],"more":' + b"[" * NEST + b"]" * NEST + b"}",
    b"[" * NEST, b'{"a":' * NEST,
    b'{"schemaVersion":"2022-12-13","types":["platform","function"],"destination":' + TO_HTTP,
    b'{"schemaVersion":"2022-12-13","types":["platform"],"buffering":{},"destination":' + TO_TCP,
    b'{"types":["function","extension"],"destination":' + TO_HTTP,
    b'{"events":["\xff"]}', b'{"errorMessage":"\xff"}', b'{"message":"\xff","a":"b"}', b'"\xff"',
    b'{"types":["\\ud800"],"destination":{"protocol":"HTTP","URI":"http://[::1"}}',
    b'{"types":["function"],"destination":{"protocol":"HTTP","URI":"http://sandbox:99999999"}}',
    b'{"types":["function"],"destination":{"protocol":"TCP","port":1e999}}',
    b'{"errorMessage":"m","errorType":"T","stackTrace":["l"],"errorCause":{"message":"c"}}',
    b'{"errorMessage":"m","errorCause":' + b"[" * NEST + b"]" * NEST + b"}",
    b'{"message":"\\ud800","exceptions":[{"stack":[{"line":99999999999999999999999}]}]}',
])  # fmt: skip
bodies = st.one_of(documents, documents, documents, st.binary(max_size=200), st.just(b"x" * 300_000))

names = st.sampled_from([b"e", b"e", b"internal", b"", b"\xff\xfe", b"n" * 3000, b"a/b", b"runtime"])
identifiers = st.sampled_from([
    IDENTIFIER, IDENTIFIER, IDENTIFIER, STRANGER, b"", b"x", b"{" + IDENTIFIER + b"}", b"\xb2" * 32,
    b"urn:uuid:" + STRANGER, b"_" * 32,
])  # fmt: skip
error_types = st.sampled_from(
    [b"Function.Odd", b"Runtime.X", b"", b"\xff" * 9, b"Extension.Odd", b"e" * 9000]
)
modes = st.sampled_from([b"streaming", b"streaming", b"buffered", b"", b"\xff", b"Streaming"])
types = st.sampled_from([
    b"application/json", b"application/vnd.aws.lambda.error.cause+json", b"", b"\xff", b"a\tb", b"t" * 9000,
])  # fmt: skip
others = st.sampled_from([
    b"Expect: 100-continue", b"Expect: more", b"Connection: close", b"Connection: keep-alive",
    b"Connection: upgrade\r\nUpgrade: websocket", b"Upgrade: h2c", b"Connection: te, , x",
    b"Host: x\r\nHost: y",
    b"User-Agent: " + b"u" * 300, b"Lambda-Runtime-Features: ((\xff", b"Accept: */*\r\n folded", b"Empty:",
    b"A: " + b"a" * HEADER_BYTES, b"A: " + b"a" * (HEADER_BYTES - 300), b"\r\n".join([b"M: 1"] * 2000),
    b"Lambda-Extension-Accept-Feature: accountId, x", b"No colon", b"Sp ace: x", b"Nul: \0", b"X: a\rb",
    b"Content-Length: 5", b"Content-Length: -1", b"Content-Length: 99999999999999999999999",
    b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked, chunked",
])  # fmt: skip
headers = st.one_of(
    names.map(lambda value: b"Lambda-Extension-Name: " + value),
    identifiers.map(lambda value: b"Lambda-Extension-Identifier: " + value),
    identifiers.map(lambda value: b"Lambda-Extension-Identifier: " + value),
    error_types.map(lambda value: b"Lambda-Runtime-Function-Error-Type: " + value),
    error_types.map(lambda value: b"Lambda-Extension-Function-Error-Type: " + value),
    modes.map(lambda value: b"Lambda-Runtime-Function-Response-Mode: " + value),
    types.map(lambda value: b"Content-Type: " + value),
    documents.filter(lambda value: b"\n" not in value).map(
        lambda value: b"Lambda-Runtime-Function-XRay-Error-Cause: " + value
    ),
    others,
)
trailers = st.lists(
    st.sampled_from([
        b"Lambda-Runtime-Function-Error-Type: Function.Late\r\n",
        b"Lambda-Runtime-Function-Error-Body: e30=\r\n",
        b"Lambda-Runtime-Function-Error-Body: \xff!\r\n",
        b"T: " + b"t" * 70_000 + b"\r\n",
        b"T: 1\r\n" * 1500,
        b"no trailer\r\n",
    ]),
    max_size=3,
).map(b"".join)  # fmt: skip


@st.composite
def framed(draw, body):
    """Return the header lines that say how long a body is, and the body as it is sent."""
    how = draw(st.sampled_from(["length"] * 4 + ["chunked"] * 4 + ["none", "short", "long", "torn"]))
    if how == "length":
        return [b"Content-Length: %d" % len(body)], body
    if how == "none":
        return [], body
    if how == "short":
        return [b"Content-Length: %d" % (len(body) // 2)], body
    if how == "long":
        return [b"Content-Length: %d" % (len(body) + draw(st.integers(1, 10_000_000)))], body
    size = draw(st.sampled_from([1, 7, 1000, 1_000_000])) if len(body) < 2000 else 100_000
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    sent = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    if how == "chunked":
        sent += b"0\r\n" + draw(trailers) + b"\r\n"
    return [b"Transfer-Encoding: chunked"], sent


@st.composite
def requests(draw):
    """One request, whole or not."""
    method, path = draw(routes)
    oddity = draw(st.integers(0, 9))
    if oddity == 0:
        method = draw(methods)
    elif oddity == 1:
        path = draw(odd_paths)
    elif oddity == 2:
        path = draw(invocations)
    lines = draw(st.lists(headers, max_size=5))
    if path.startswith(b"/2020-01-01/extension/register") and draw(st.booleans()):
        lines.append(b"Lambda-Extension-Name: " + draw(names))
    elif path.startswith((b"/2020", b"/2022")) and draw(st.booleans()):
        lines.append(b"Lambda-Extension-Identifier: " + IDENTIFIER)
    framing, body = draw(framed(draw(bodies)) if method != b"GET" else framed(b""))
    version = draw(st.sampled_from([b"HTTP/1.1"] * 9 + [b"HTTP/1.0", b"HTTP/2.0"]))
    head = b"\r\n".join([method + b" " + path + b" " + version, *lines, *framing])
    return head + b"\r\n\r\n" + body


@dataclass(frozen=True)
class Conversation:
    """
    What is said on one connection.

    Args:
        text: All of it.
        cuts: Where it is cut into pieces, modulo its length.
        ending: `stay`, `half`, `close` or `reset`.
    """

    text: bytes
    cuts: tuple[int, ...]
    ending: str

    def __repr__(self) -> str:
        text = self.text if len(self.text) < 3000 else self.text[:2500] + b"..." + self.text[-200:]
        return f"Conversation({text!r}, {self.cuts}, {self.ending!r})"

    def pieces(self, **places: bytes) -> list[bytes]:
        """Return what is sent, bit by bit."""
        text = self.text
        for name, value in places.items():
            text = text.replace(b"{%b}" % name.encode(), value)
        ends = sorted({cut % (len(text) + 1) for cut in self.cuts} | {len(text)})
        return [text[start:end] for start, end in zip([0, *ends], ends, strict=False) if end > start]


@st.composite
def conversations(draw):
    """One connection."""
    text = b"".join(draw(st.lists(requests(), min_size=1, max_size=4)))
    damage = draw(st.integers(0, 9))
    if damage == 0:
        place = draw(st.integers(0, len(text)))
        text = text[:place] + draw(st.binary(max_size=30)) + text[place + draw(st.integers(0, 30)) :]
    elif damage == 1:
        text = text[: draw(st.integers(0, len(text)))]
    elif damage == 2:
        text = draw(st.binary(max_size=300))
    cuts = draw(st.lists(st.integers(0, 3000), max_size=4))
    return Conversation(text, tuple(cuts), draw(st.sampled_from(["stay", "half", "close", "reset"])))
