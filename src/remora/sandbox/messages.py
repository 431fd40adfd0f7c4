"""The words spoken with remora-init: orders are encoded, reports decoded (format: `remora_init.c`)."""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from remora.sandbox.base import Exit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from remora.sandbox.limits import Limit

PROTOCOL_VERSION = 3
MESSAGE_BYTES_MAX = 256 * 1024
"""Longest order that remora-init takes."""
STRINGS_MAX = 8192
"""Most arguments and variables of one process."""
REPORT_BYTES_MAX = 64
"""No report is longer."""

KILL_ALL = b"A"
FREEZE = b"Z"
THAW = b"T"
MEASURE = b"M"
MAKE_SOCKET = b"P"
LET_GO = b"L"

UNCHANGED = 0xFFFFFFFF
"""The user or group that a process keeps when it is not told another."""

_START = struct.Struct("<cIIIHHH")
_LIMIT = struct.Struct("<IQQ")
_KILL = struct.Struct("<cIi")
_PAIR = struct.Struct("<II")
_WORD = struct.Struct("<I")
_MEASURE = struct.Struct("<Q")
_EXIT = struct.Struct("<IIIQQ")


@dataclass(frozen=True, slots=True)
class Hello:
    """The first report: the listener's port; the listener comes with it."""

    port: int


@dataclass(frozen=True, slots=True)
class Started:
    """Process `number` was executed as `pid`."""

    number: int
    pid: int


@dataclass(frozen=True, slots=True)
class Failed:
    """Process `number` could not be executed."""

    number: int
    errno: int


@dataclass(frozen=True, slots=True)
class Exited:
    """Process `number` ended."""

    number: int
    how: Exit


@dataclass(frozen=True, slots=True)
class Emptied:
    """Nothing but pid 1 is left."""


@dataclass(frozen=True, slots=True)
class Thawed:
    """Everything was continued by signals."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The highest resident sizes of all living processes, added up."""

    memory_kib: int


@dataclass(frozen=True, slots=True)
class Refused:
    """An order that began with `first` made no sense to remora-init."""

    first: int


@dataclass(frozen=True, slots=True)
class SocketMade:
    """Answer to `MAKE_SOCKET`: the socket comes with it, unless there is an error."""

    errno: int
    descriptor: int = -1


Report = Hello | Started | Failed | Exited | Emptied | Thawed | Measured | Refused | SocketMade


def start(
    number: int,
    *,
    argv: Sequence[str],
    env: Mapping[str, str],
    cwd: str,
    limits: Sequence[Limit],
    uid: int = UNCHANGED,
    gid: int = UNCHANGED,
) -> bytes:
    """
    Encode the order to start a process; its descriptors travel with it, standard output first.

    Raises:
        OSError: EINVAL if argv is empty, or a string holds a NUL or is not to be written in UTF-8; E2BIG if
            there is too much of it.
    """
    strings = [cwd, *argv, *(f"{name}={value}" for name, value in env.items())]
    try:
        packed = "\0".join(strings).encode("utf-8", "surrogateescape") + b"\0"
    except UnicodeEncodeError as error:
        raise OSError(errno.EINVAL, f"not to be written in UTF-8: {error}") from error
    if not argv or packed.count(b"\0") != len(strings):
        raise OSError(errno.EINVAL, "a process needs a program, and no string of it may hold a NUL")
    if len(strings) > STRINGS_MAX:
        raise OSError(errno.E2BIG, f"{len(strings)} arguments and variables are too many")
    head = _START.pack(b"S", number, uid, gid, len(limits), len(argv), len(env))
    order = b"".join((head, *(_LIMIT.pack(*limit) for limit in limits), packed))
    if len(order) > MESSAGE_BYTES_MAX:
        raise OSError(errno.E2BIG, f"{len(order)} bytes of arguments and variables are too many")
    return order


def kill(number: int, signal: int) -> bytes:
    """Encode the order to signal the group of process `number`."""
    return _KILL.pack(b"K", number, signal)


def join(*, has_thaw: bool) -> bytes:
    """Encode the order that later processes join the cgroups whose files travel with it."""
    return b"C" + bytes([has_thaw])


def read(message: bytes) -> Report:
    """
    Decode one report.

    Raises:
        ValueError: If it is none; remora-init is of another version, or not remora-init.
    """
    kind, rest = message[:1], message[1:]
    try:
        match kind:
            case b"S":
                return Started(*_PAIR.unpack(rest))
            case b"X":
                number, code, signal, cpu_us, peak_kib = _EXIT.unpack(rest)
                return Exited(number, Exit(None if signal else code, signal or None, cpu_us, peak_kib))
            case b"F":
                return Failed(*_PAIR.unpack(rest))
            case b"H":
                version, port = _PAIR.unpack(rest)
                if version != PROTOCOL_VERSION:
                    raise ValueError(
                        f"remora-init speaks version {version}, not {PROTOCOL_VERSION}: install anew"
                    )
                return Hello(port)
            case b"E" if not rest:
                return Emptied()
            case b"T" if not rest:
                return Thawed()
            case b"M":
                return Measured(*_MEASURE.unpack(rest))
            case b"P":
                return SocketMade(*_WORD.unpack(rest))
            case b"B" if len(rest) == 1:
                return Refused(rest[0])
            case _:
                raise ValueError(f"remora-init sent {message[:16]!r}, which is no report")
    except struct.error as error:
        raise ValueError(f"remora-init sent {message[:16]!r}, which is too short or too long") from error
