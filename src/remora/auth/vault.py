"""
Secrets at rest: sealed with a key of the node's own, which lies in a file beside the records.

Whoever has the records alone, or a copy of them, cannot read what is sealed. AES-256 in GCM: what was changed
is not opened, nor what stands under another name than it was sealed for.
"""

from __future__ import annotations

import base64
import secrets
import threading
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from remora.kit.files import new_file, remove_unfinished

if TYPE_CHECKING:
    from pathlib import Path

_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12


class VaultError(Exception):
    """What was sealed cannot be opened, or nothing can be sealed; the text says why."""


class Vault:
    """
    Seals and opens texts.

    Args:
        path: The file with the key; made when it is first needed, readable by its owner only.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._cipher: AESGCM | None = None

    def __repr__(self) -> str:
        return f"<Vault {self._path}>"

    def key_for(self, purpose: bytes) -> bytes:
        """
        Return a key of 32 bytes, always the same for a purpose.

        Raises:
            VaultError: If the vault's own is damaged, or cannot be read.
            OSError: If there is none, and the disk cannot take one.
        """
        with self._lock:
            own = self._read(may_make=True)
        return HKDF(SHA256(), _KEY_BYTES, salt=None, info=purpose).derive(own)

    def seal(self, text: str, name: str) -> str:
        """
        Seal a text.

        Args:
            text: What is secret.
            name: What it belongs to; has to be given again to open it.

        Raises:
            VaultError: If the key is damaged, or cannot be read.
            OSError: If there is none, and the disk cannot take one.
        """
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._known(may_make=True).encrypt(nonce, text.encode(), name.encode())
        return base64.b64encode(nonce + sealed).decode()

    def open(self, sealed: str, name: str) -> str:
        """
        Open what was sealed.

        Raises:
            VaultError: If it was sealed with another key or for another name, or was changed.
        """
        cipher = self._known(may_make=False)
        try:
            content = base64.b64decode(sealed)
            return cipher.decrypt(content[:_NONCE_BYTES], content[_NONCE_BYTES:], name.encode()).decode()
        except (InvalidTag, ValueError) as error:
            raise VaultError(f"{name} was not sealed with the key in {self._path}") from error

    def _known(self, *, may_make: bool) -> AESGCM:
        with self._lock:
            if self._cipher is None:
                self._cipher = AESGCM(self._read(may_make=may_make))
            return self._cipher

    def _read(self, *, may_make: bool) -> bytes:
        if may_make and not self._path.exists():
            remove_unfinished(self._path.parent, ".vault-")
            with new_file(self._path.parent, ".vault-") as new:
                new.file.write(AESGCM.generate_key(_KEY_BYTES * 8))
                new.path = self._path
        try:
            key = self._path.read_bytes()
        except OSError as error:
            raise VaultError(f"the key in {self._path} cannot be had: {error.strerror}") from error
        if len(key) != _KEY_BYTES:
            raise VaultError(f"the key in {self._path} is damaged")
        return key
