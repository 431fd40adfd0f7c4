"""Pure pieces of reading the head of a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from remora.http.exchange import Header


def path_of(target: bytes) -> bytes:
    """Return the path of a request target in absolute form (`http://host/path`); others as they are."""
    _, found, rest = target.partition(b"://")
    if not found:
        return target
    _, slash, path = rest.partition(b"/")
    return slash + path if slash else b"/"


def size_of(target: bytes, headers: list[Header]) -> int:
    """Return about how many bytes a head has on the wire."""
    return len(target) + sum(len(name) + len(value) + 4 for name, value in headers)


def without_upgrade(method: bytes, target: bytes, headers: list[Header]) -> bytes:
    """Return a head that is the same but for the wish to change the protocol (RFC 9110, 7.8)."""
    lines = [b"%b %b HTTP/1.1\r\n" % (method, target)]
    lines += [b"%b: %b\r\n" % header for header in headers if header[0] != b"upgrade"]
    return b"".join(lines) + b"\r\n"
