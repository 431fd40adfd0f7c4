"""
How a snapshot is kept on disk: in a file of which nothing can be read, changed, cut or exchanged unnoticed.

It begins with a key of its own, sealed with the node's for the snapshot's name. What follows are chunks, each
sealed with that key; a chunk's nonce is its number, and its first byte says what it is: a file's name and
size, a part of that file with its offset (holes are left out), or the end. AES-256 in GCM throughout.
"""

from __future__ import annotations

import os
import secrets
import struct
from typing import IO, TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from remora.kit.files import extents

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAGIC: Final = b"remora snapshot 1\n"
CHUNK_BYTES: Final = 1024 * 1024
KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_FILE, _DATA, _END = b"F", b"D", b"E"
_LENGTH = struct.Struct(">I")
_NUMBER = struct.Struct(">Q")
_SEALED_BYTES_MAX: Final = CHUNK_BYTES + 1 + _NUMBER.size + _TAG_BYTES


class SnapshotDamaged(Exception):  # noqa: N818 - what has happened to it
    """What is on disk is not what was written there."""


def seal(source: Path, target: IO[bytes], name: str, key: bytes) -> None:
    """
    Write the files of a directory, sealed.

    Args:
        source: The directory; it has no directories in it.
        target: Where to.
        name: What the snapshot is called.
        key: The node's.

    Raises:
        OSError: If the disk cannot take it.
    """
    own, nonce = secrets.token_bytes(KEY_BYTES), secrets.token_bytes(_NONCE_BYTES)
    target.write(MAGIC + nonce + AESGCM(key).encrypt(nonce, own, name.encode()))
    cipher = AESGCM(own)
    for number, chunk in enumerate(_chunks(source)):
        sealed = cipher.encrypt(number.to_bytes(_NONCE_BYTES, "big"), chunk, None)
        target.write(_LENGTH.pack(len(sealed)))
        target.write(sealed)


def _chunks(source: Path) -> Iterator[bytes]:
    for path in sorted(source.iterdir()):
        with path.open("rb") as file:
            yield _FILE + _NUMBER.pack(path.stat().st_size) + path.name.encode()
            for offset, size_bytes in extents(file.fileno()):
                for start in range(offset, offset + size_bytes, CHUNK_BYTES):
                    length = min(CHUNK_BYTES, offset + size_bytes - start)
                    yield _DATA + _NUMBER.pack(start) + os.pread(file.fileno(), length, start)
    yield _END


def unseal(source: IO[bytes], target: Path, name: str, key: bytes) -> None:
    """
    Write the files of a snapshot into a directory.

    Args:
        source: What `seal` has written.
        target: The directory; empty.
        name: What the snapshot is called.
        key: The node's.

    Raises:
        SnapshotDamaged: If it is not what was written; files may be there then.
        OSError: If the directory cannot take it.
    """
    head = source.read(len(MAGIC) + _NONCE_BYTES + KEY_BYTES + _TAG_BYTES)
    nonce, sealed = head[len(MAGIC) :][:_NONCE_BYTES], head[len(MAGIC) + _NONCE_BYTES :]
    try:
        if not head.startswith(MAGIC):
            raise SnapshotDamaged(f"the snapshot {name} was written by another remora, or is none")
        cipher = AESGCM(AESGCM(key).decrypt(nonce, sealed, name.encode()))
        _write(_opened(source, cipher), target)
    except (InvalidTag, ValueError) as error:
        raise SnapshotDamaged(f"the snapshot {name} is damaged") from error


def _opened(source: IO[bytes], cipher: AESGCM) -> Iterator[bytes]:
    """Yield all chunks but the end."""
    number = 0
    while True:
        length = source.read(_LENGTH.size)
        size_bytes = _LENGTH.unpack(length)[0] if len(length) == _LENGTH.size else 0
        if size_bytes > _SEALED_BYTES_MAX:
            raise ValueError(f"a chunk of {size_bytes} bytes")
        sealed = source.read(size_bytes)
        if len(sealed) != size_bytes:
            raise ValueError("it was cut")
        chunk = cipher.decrypt(number.to_bytes(_NONCE_BYTES, "big"), sealed, None)
        if chunk == _END:
            if source.read(1):
                raise ValueError("something follows the end")
            return
        yield chunk
        number += 1


def _write(chunks: Iterator[bytes], target: Path) -> None:
    file = -1
    try:
        for chunk in chunks:
            (number,) = _NUMBER.unpack(chunk[1:9])
            if chunk[:1] == _FILE:
                if file >= 0:
                    os.close(file)
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                file = os.open(target / chunk[9:].decode(), flags, 0o644)
                os.ftruncate(file, number)
            else:
                _write_at(file, chunk[9:], number)
    finally:
        if file >= 0:
            os.close(file)


def _write_at(file: int, content: bytes, offset: int) -> None:
    """Write all of it: when there is little room, a write may take only a part."""
    done = 0
    while done < len(content):
        done += os.pwrite(file, content[done:], offset + done)
