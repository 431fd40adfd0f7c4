"""Who calls: the signature of a request is checked against the keys that the node knows."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple

from remora.auth import chunks, sigv4
from remora.auth.chunks import ChunksError
from remora.auth.keys import KeysError
from remora.auth.replays import Replays
from remora.auth.sigv4 import SignatureError
from remora.control.services.s3_bodies import chunks_of

if TYPE_CHECKING:
    from remora.auth.keys import KeyFile
    from remora.auth.sessions import Sessions
    from remora.control.state import State
    from remora.http.exchange import Exchange
    from remora.kit.clock import Clock
    from remora.resources.names import Place

_LARGE_BODY_BYTES: Final = 256 * 1024
"""From here on a body is digested in a thread."""
_GLOBAL: Final = ("iam", "sts")
"""Services whose clients may sign for us-east-1 wherever they are."""


class Caller(NamedTuple):
    """
    Who calls.

    Args:
        arn: `arn:aws:iam::…:user/…` or `arn:aws:sts::…:assumed-role/…`.
        role: ARN of the role that was taken on; empty for the owner of a key.
        function: The function whose environment got the credentials; empty if none did.
        user_id: What STS calls `UserId`: `AIDA…`, or a role's identifier, a colon, the session's name.
        access_key: What the request was signed with.
        policies: Of the owner of a key, JSON or ARNs; None: everything is allowed.
        session_policies: Which limit a session, JSON or ARNs.
        is_foreign: Whether the caller is of another account than the node.
    """

    arn: str
    role: str = ""
    function: str = ""
    user_id: str = ""
    access_key: str = ""
    policies: tuple[str, ...] | None = None
    session_policies: tuple[str, ...] = ()
    is_foreign: bool = False

    @property
    def account(self) -> str:
        """Twelve digits."""
        return self.arn.split(":")[4]

    @property
    def is_limited(self) -> bool:
        """Whether policies say what the caller may do; others may do everything."""
        return bool(self.role) or self.is_foreign or self.policies is not None


class _Known(NamedTuple):
    secret: str
    caller: Caller
    expires_ms: int | None
    token: str = ""


class Callers:
    """
    Tells who signed a request.

    Args:
        keys: Keys of people and programs.
        sessions: Credentials of environments.
        place: Region and account of this node.
        clock: The node's clock.
        state: The records, for sessions that STS gave out.
    """

    def __init__(self, keys: KeyFile, sessions: Sessions, place: Place, clock: Clock, state: State) -> None:
        self._keys = keys
        self._sessions = sessions
        self._place = place
        self._clock = clock
        self._state = state
        self._replays = Replays()

    def __repr__(self) -> str:
        return f"<Callers {self._keys!r}>"

    async def identify(self, exchange: Exchange, service: str) -> Caller:
        """
        Check the signature of a complete request.

        Args:
            exchange: The request.
            service: What it is for, as in scopes.

        Raises:
            SignatureError: It is not signed, or not as it should be.
        """
        request = sigv4.Signed(exchange.method, exchange.path, exchange.query, exchange.headers)
        claim = sigv4.read_claim(request)
        if claim is None:
            raise SignatureError("MissingAuthenticationTokenException", "Missing Authentication Token")
        self._check_scope(claim, service)
        known = self._find(claim)
        if len(exchange.body) < _LARGE_BODY_BYTES:
            until_s = self._verify(claim, known.secret, request, exchange)
        else:
            until_s = await asyncio.to_thread(self._verify, claim, known.secret, request, exchange)
        now_ms = self._clock.wall_ms()
        if known.expires_ms is not None and known.expires_ms <= now_ms:
            text = "The security token included in the request is expired"
            raise SignatureError("ExpiredTokenException", text)
        call, attempt = exchange.header(b"amz-sdk-invocation-id"), exchange.header(b"amz-sdk-request")
        if (
            call is not None
            and claim.lifetime_s is None  # presigned URLs are made to be used more than once
            and self._replays.is_replay((claim.signature, call, attempt), until_s, now_ms / 1000)
        ):
            text = "This request was sent before. Sign each request anew."
            raise SignatureError("InvalidSignatureException", text)
        return known.caller._replace(access_key=claim.access_key)

    def _verify(self, claim: sigv4.Claim, secret: str, request: sigv4.Signed, exchange: Exchange) -> float:
        """Check a signature; return until when it holds, seconds since 1970."""
        digest = sigv4.payload_digest(claim, request, exchange.body)
        until_s = sigv4.verify(claim, secret, request, digest, self._clock.wall_ms() / 1000)
        if digest in (chunks.SIGNED, chunks.SIGNED_WITH_TRAILER):
            try:
                chunks.check_chunks(claim, secret, chunks_of(exchange))
            except ChunksError as error:
                raise SignatureError(error.code, error.message) from error
        return until_s

    def _check_scope(self, claim: sigv4.Claim, service: str) -> None:
        if claim.service != service:
            text = f"Credential should be scoped to correct service: '{service}'."
            raise SignatureError("InvalidSignatureException", text)
        if claim.region == self._place.region or (service in _GLOBAL and claim.region == "us-east-1"):
            return
        if service == "s3":
            why = f"the region '{claim.region}' is wrong; expecting '{self._place.region}'"
            if claim.lifetime_s is None:
                text = f"The authorization header is malformed; {why}"
                raise SignatureError("AuthorizationHeaderMalformed", text)
            text = f"Error parsing the X-Amz-Credential parameter; {why}"
            raise SignatureError("AuthorizationQueryParametersError", text)
        raise SignatureError("InvalidSignatureException", "Credential should be scoped to a valid region.")

    def _find(self, claim: sigv4.Claim) -> _Known:
        known = self._session(claim) if claim.access_key.startswith("ASIA") else self._key(claim)
        if known is None or known.token != claim.token:
            text = "The security token included in the request is invalid."
            raise SignatureError("UnrecognizedClientException", text)
        return known

    def _key(self, claim: sigv4.Claim) -> _Known | None:
        try:
            key = self._keys.find(claim.access_key)
        except KeysError as error:
            raise SignatureError("ServiceException", str(error)) from error
        if key is None:
            return None
        account = key.account or self._place.account
        caller = Caller(
            self._place._replace(account=account).user_arn(key.name),
            user_id=key.user_id,
            policies=None if key.policies is None else tuple(key.policies),
            is_foreign=account != self._place.account,
        )
        return _Known(key.secret_access_key, caller, None)

    def _session(self, claim: sigv4.Claim) -> _Known | None:
        account = self._place.account
        session = self._state.view.sessions.get(claim.access_key)
        if session is not None:
            role = self._state.view.roles.get(session.role)
            if role is None or role.role_id != session.user_id.partition(":")[0]:
                return None  # that role is gone
            arn = self._place.role_arn(role.name, role.path)
            caller = Caller(session.arn, arn, user_id=session.user_id, session_policies=session.policies)
            return _Known(session.secret, caller, session.expires_ms, session.token)
        said = self._sessions.read(claim.access_key, claim.token)
        if said is None:
            return None
        role = self._state.view.role_by_arn(self._place, said.role)
        name = said.role.rpartition("/")[2]
        caller = Caller(
            f"arn:aws:sts::{account}:assumed-role/{name}/{said.session}",
            said.role,
            said.session,
            user_id=f"{role.role_id if role is not None else name}:{said.session}",
        )
        return _Known(self._sessions.secret(claim.access_key), caller, said.expires_ms, claim.token)
