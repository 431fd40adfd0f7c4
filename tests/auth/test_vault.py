"""What is sealed at rest is opened only as it was, where it was, with the key it was sealed with."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor

import pytest

from remora.auth.vault import Vault, VaultError


def test_what_was_sealed_is_opened_again(tmp_path):
    sealed = Vault(tmp_path / "key").seal("secret ü", "name")
    assert Vault(tmp_path / "key").open(sealed, "name") == "secret ü"
    assert Vault(tmp_path / "key").seal("secret ü", "name") != sealed


def test_nothing_else_is_opened(tmp_path):
    vault = Vault(tmp_path / "key")
    sealed = vault.seal("secret", "name")
    changed = bytearray(base64.b64decode(sealed))
    changed[-1] ^= 1
    for text, name in ((sealed, "other"), (base64.b64encode(changed).decode(), "name"), ("", "name")):
        with pytest.raises(VaultError):
            vault.open(text, name)
    Vault(tmp_path / "another").seal("x", "name")
    with pytest.raises(VaultError, match="was not sealed with the key in"):
        Vault(tmp_path / "another").open(sealed, "name")


def test_a_key_that_is_gone_is_not_made_anew_to_open(tmp_path):
    sealed = Vault(tmp_path / "key").seal("secret", "name")
    (tmp_path / "key").unlink()
    with pytest.raises(VaultError, match="cannot be had: No such file"):
        Vault(tmp_path / "key").open(sealed, "name")
    (tmp_path / "key").write_bytes(b"short")
    with pytest.raises(VaultError, match="is damaged"):
        Vault(tmp_path / "key").seal("secret", "name")
    with pytest.raises(FileNotFoundError):
        Vault(tmp_path / "gone" / "key").seal("secret", "name")


def test_what_a_killed_process_left_is_removed(tmp_path):
    (tmp_path / ".vault-left").write_bytes(b"half")
    Vault(tmp_path / "key").seal("secret", "name")
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_many_at_once_seal_with_one_key(tmp_path):
    vault = Vault(tmp_path / "key")
    with ThreadPoolExecutor(8) as threads:
        sealed = list(threads.map(lambda number: vault.seal(str(number), "n"), range(50)))
    assert [Vault(tmp_path / "key").open(each, "n") for each in sealed] == [str(n) for n in range(50)]
    assert [path.name for path in tmp_path.iterdir()] == ["key"]
