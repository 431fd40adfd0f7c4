"""
What an environment that is made for a snapshot needs besides: whom it tells, and credentials to be renewed.

Its processes outlive what was true when they were started: they get no access keys in their variables but an
address and a token, by which they ask for credentials when they need some.

Source: snapstart specification, sections 5.1 and 7.
"""

from __future__ import annotations

import hmac
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

import msgspec

from remora.environment.answers import JSON, TEXT

if TYPE_CHECKING:
    from remora.environment.environment import Environment
    from remora.environment.variables import Credentials
    from remora.http.exchange import Exchange
    from remora.lifecycle.messages import Failure

CREDENTIALS = "/2021-04-23/credentials"
"""Path of the credentials on the environment's own listener."""
_UNKNOWN_TOKEN = b"cannot get credentials for the provided token\n"


class Snapshots(Protocol):
    """Who takes snapshots of environments, and restores them."""

    def environment_held(self, environment: Environment) -> None:
        """Everybody in it is initialised and waits, frozen; `Environment.restore` or `stop` follows."""

    def environment_abandoned(self, environment: Environment, failure: Failure) -> None:
        """It failed before it could serve, in its init or its restore; the owner hears of its end."""


class Vault:
    """
    Gives the processes of one environment their credentials.

    Args:
        token: What they must show; it stays the same for as long as they live.
        credentials: What they get, until `renew`.
    """

    def __init__(self, token: str, credentials: Credentials) -> None:
        self._token = token.encode()
        self._credentials = credentials

    def __repr__(self) -> str:
        """Show nothing of what is in it."""
        return "<Vault>"

    @property
    def token(self) -> str:
        """What must be shown."""
        return self._token.decode()

    def expect(self, token: str) -> None:
        """Let another token be shown: the processes have it from the one that they were copied from."""
        self._token = token.encode()

    def renew(self, credentials: Credentials) -> None:
        """Give others from now on."""
        self._credentials = credentials

    def answer(self, exchange: Exchange) -> None:
        """GET the credentials; whoever does not show the token learns nothing."""
        shown = exchange.header(b"authorization") or b""
        if not hmac.compare_digest(shown, self._token):
            exchange.respond(404, TEXT, _UNKNOWN_TOKEN)
            return
        credentials = self._credentials
        expiration = datetime.fromtimestamp(credentials.expires_ms / 1000, UTC)
        body = {
            "AccessKeyId": credentials.access_key_id,
            "SecretAccessKey": credentials.secret_access_key,
            "Token": credentials.session_token,
            "Expiration": f"{expiration:%Y-%m-%dT%H:%M:%SZ}",
        }
        exchange.respond(200, JSON, msgspec.json.encode(body))
