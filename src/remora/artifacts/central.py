"""
Counts the entries of a zip before anything is built from them.

The number that the archive states can lie, and reading half a million entries into objects takes hundreds of
megabytes; so the central directory is walked here first, entry by entry, and left early.
Source: APPNOTE.TXT, sections 4.3.12 to 4.3.16.
"""

from __future__ import annotations

import os
import struct
from typing import BinaryIO, Final

from remora.spec import limits

_END: Final = struct.Struct("<4s4H2LH")
_END_MARK: Final = b"PK\x05\x06"
_LOCATOR: Final = struct.Struct("<4sLQL")
_LOCATOR_MARK: Final = b"PK\x06\x07"
_END64: Final = struct.Struct("<4sQ2H2L4Q")
_END64_MARK: Final = b"PK\x06\x06"
_ENTRY: Final = struct.Struct("<4s6H3L5H2L")
_ENTRY_MARK: Final = b"PK\x01\x02"
_COMMENT_BYTES_MAX: Final = 65_535


def count_entries(file: BinaryIO) -> int:
    """
    Count what is in the central directory; stops one above the greatest number allowed.

    Args:
        file: The archive, at any position.

    Raises:
        ValueError: If it is no zip.
    """
    size = file.seek(0, os.SEEK_END)
    tail_at = max(0, size - _COMMENT_BYTES_MAX - _END.size)
    file.seek(tail_at)
    tail = file.read()
    found = tail.rfind(_END_MARK)
    if found < 0 or len(tail) - found < _END.size:
        raise ValueError("no end of central directory")
    end_at = tail_at + found
    directory_bytes = _END.unpack_from(tail, found)[5]
    locator_at = found - _LOCATOR.size
    if locator_at >= _END64.size and tail[locator_at : locator_at + 4] == _LOCATOR_MARK:
        end64 = _END64.unpack_from(tail, locator_at - _END64.size)
        if end64[0] == _END64_MARK:
            directory_bytes = end64[8]
            end_at -= _LOCATOR.size + _END64.size
    if directory_bytes > end_at:
        raise ValueError("the central directory is longer than the archive")
    return _walk(file, end_at - directory_bytes, end_at)


def _walk(file: BinaryIO, position: int, end: int) -> int:
    file.seek(position)
    count = 0
    while position < end and count <= limits.ARCHIVE_ENTRIES_MAX:
        head = file.read(_ENTRY.size)
        if len(head) < _ENTRY.size or head[:4] != _ENTRY_MARK:
            raise ValueError("broken central directory")
        name_bytes, extra_bytes, comment_bytes = _ENTRY.unpack(head)[10:13]
        position = file.seek(name_bytes + extra_bytes + comment_bytes, os.SEEK_CUR)
        count += 1
    return count
