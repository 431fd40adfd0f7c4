"""
The keys of a node's callers, in one file: made by `remora keys`, read by the node.

The file is replaced as a whole, so a reader sees all of a change or nothing; who changes it holds a lock. A
running node looks again when the file is another than the one it read.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from remora.kit.files import new_file, remove_unfinished
from remora.kit.ids import random_hex

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Key(msgspec.Struct, frozen=True):
    """
    One key.

    Args:
        access_key_id: `AKIA` and 16 characters.
        secret_access_key: 40 characters.
        name: Who it is for; the last part of the caller's ARN, `user/<name>`.
        created: When, ISO 8601 in UTC.
        policies: What its owner may do: policies in JSON, or ARNs of managed ones; None: everything.
        account: Of its owner, 12 digits; empty for the node's own.
    """

    access_key_id: str
    secret_access_key: str
    name: str
    created: str
    policies: list[str] | None = None
    account: str = ""

    @property
    def user_id(self) -> str:
        """What stands for the owner, whichever key they use: `AIDA` and 17 letters and digits."""
        digest = hashlib.sha256("/".join(filter(None, (self.account, self.name))).encode()).digest()
        return f"AIDA{base64.b32encode(digest).decode()[:17]}"


class KeysError(Exception):
    """The keys cannot be read or changed; the text says why."""


class KeyFile:
    """
    The keys in `path`.

    Args:
        path: The file; none means no keys. Only its owner may read it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, Key] = {}
        self._stamp: tuple[int, int, int] | None = None

    def __repr__(self) -> str:
        return f"<KeyFile {self._path}>"

    def find(self, access_key_id: str) -> Key | None:
        """
        Return a key, None if there is none; costs a look at the file's date.

        Raises:
            KeysError: If the file is damaged.
        """
        stamp = self._look()
        if stamp != self._stamp:
            self._known = {key.access_key_id: key for key in self.all()}
            self._stamp = stamp
        return self._known.get(access_key_id)

    def all(self) -> list[Key]:
        """
        Return all keys, oldest first.

        Raises:
            KeysError: If the file is damaged.
        """
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=list[Key])
        except FileNotFoundError:
            return []
        except OSError as error:
            raise KeysError(f"the keys in {self._path} cannot be read: {error.strerror}") from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise KeysError(f"the keys in {self._path} are damaged: {error}") from error

    def create(self, name: str, created: str, policies: list[str] | None = None, account: str = "") -> Key:
        """
        Make a key; arguments as for `Key`.

        Raises:
            KeysError: If it could not be written.
        """
        key = Key(f"AKIA{random_hex(16).upper()}", random_hex(40), name, created, policies, account)
        self._change(lambda keys: [*keys, key])
        return key

    def delete(self, access_key_id: str) -> bool:
        """
        Delete a key; False if there is none of that identifier.

        Raises:
            KeysError: If it could not be written.
        """
        is_known = False

        def without(keys: list[Key]) -> list[Key]:
            nonlocal is_known
            kept = [key for key in keys if key.access_key_id != access_key_id]
            is_known = len(kept) < len(keys)
            return kept

        self._change(without)
        return is_known

    def _look(self) -> tuple[int, int, int] | None:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def _change(self, change: Callable[[list[Key]], list[Key]]) -> None:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._locked():
                remove_unfinished(self._path.parent, ".keys-")
                keys = change(self.all())
                with new_file(self._path.parent, ".keys-") as new:
                    new.file.write(msgspec.json.format(msgspec.json.encode(keys), indent=1))
                    new.path = self._path
        except OSError as error:
            raise KeysError(f"the keys in {self._path} cannot be changed: {error.strerror}") from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        lock = os.open(self._path.with_suffix(".lock"), flags, 0o600)  # who may open it can hold it up
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)
