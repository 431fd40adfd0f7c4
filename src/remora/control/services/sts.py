"""
STS: who the caller is, and credentials of roles.

Source: AWS Security Token Service API Reference.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from remora.auth.policy import Question, Verdict, judge_trust
from remora.control.callers import Caller
from remora.control.rights import ASSUME_ROLE, trust_of
from remora.control.services.iam_parts import document
from remora.control.services.neighbour import ServiceError
from remora.control.services.query import QueryHandler, QueryService
from remora.resources.neighbours import Session
from remora.resources.view import Change, View
from remora.spec import xml_api

if TYPE_CHECKING:
    from collections.abc import Mapping

    from remora.control.context import Control
    from remora.http.exchange import Exchange
    from remora.resources.names import Place
    from remora.resources.neighbours import Role

SERVICE: Final = "sts"

Request = dict[str, Any]
Reply = dict[str, Any]

_SESSION_S: Final = 3600
_ACCESS_KEY: Final = re.compile(rb"Credential=([^/,\s]+)/")


class Sts:
    """
    Performs the operations.

    Args:
        control: The node's parts.
    """

    def __init__(self, control: Control) -> None:
        self._control = control

    def __repr__(self) -> str:
        return f"<Sts sessions={len(self._control.state.view.sessions)}>"

    def handlers(self) -> Mapping[str, QueryHandler]:
        """Return what performs each operation, by its name in the model."""
        return {"AssumeRole": self.assume_role, "GetCallerIdentity": self.get_caller_identity}

    async def get_caller_identity(self, _: Request, exchange: Exchange) -> Reply:
        """Tell who calls; on a node that asks for no keys, a role's session or else the account."""
        account, caller = self._control.place.account, exchange.slot
        match = _ACCESS_KEY.search(exchange.header(b"authorization") or b"")
        key = match[1].decode("latin-1") if match else ""
        session = self._control.state.view.sessions.get(key)
        if isinstance(caller, Caller):
            return {"UserId": caller.user_id, "Account": caller.account, "Arn": caller.arn}
        if session is None:
            return {"UserId": account, "Account": account, "Arn": self._control.place.root_arn}
        if session.expires_ms <= self._control.clock.wall_ms():
            text = "The security token included in the request is expired"
            raise ServiceError("ExpiredToken", text, 403)
        return {"UserId": session.user_id, "Account": account, "Arn": session.arn}

    async def assume_role(self, request: Request, exchange: Exchange) -> Reply:
        """Give out credentials of a role; former ones that have expired are forgotten."""
        role = self._find(request, exchange.slot)
        seconds = request.get("DurationSeconds", _SESSION_S)
        if seconds > role.max_session_s:
            text = "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
            raise ServiceError("ValidationError", text)
        name, account = request["RoleSessionName"], self._control.place.account
        now = self._control.clock.wall_ms()
        session = Session(
            access_key=f"ASIA{self._random()[:16].upper()}",
            secret=(self._random() + self._random())[:40],
            token=self._random() * 2 + self._random(),
            role=role.name,
            user_id=f"{role.role_id}:{name}",
            arn=f"arn:aws:sts::{account}:assumed-role/{role.name}/{name}",
            expires_ms=now + seconds * 1000,
            policies=_session_policies(request),
        )

        def decide(view: View) -> tuple[None, list[Change]]:
            expired = [key for key, known in view.sessions.items() if known.expires_ms <= now]
            gone = [Change("session", key, None) for key in expired]
            return None, [*gone, Change("session", session.access_key, session)]

        await self._control.state.change(decide)
        return {
            "Credentials": {
                "AccessKeyId": session.access_key,
                "SecretAccessKey": session.secret,
                "SessionToken": session.token,
                "Expiration": session.expires_ms / 1000,
            },
            "AssumedRoleUser": {"AssumedRoleId": session.user_id, "Arn": session.arn},
        }

    def _find(self, request: Request, caller: object) -> Role:
        """
        Find a role that the caller may assume; what does not exist may not be assumed either.

        Whose policies say what they may do needs the trust of the role besides.
        """
        arn, place = request["RoleArn"], self._control.place
        role = self._control.state.view.role_by_arn(place, arn)
        who, may = place.root_arn, True
        if isinstance(caller, Caller):
            who = caller.arn
            may = not caller.is_limited or _trusts(role, caller, place, request.get("ExternalId"))
        if role is None or not may:
            text = f"User: {who} is not authorized to perform: sts:AssumeRole on resource: {arn}"
            raise ServiceError("AccessDenied", text, 403)
        return role

    def _random(self) -> str:
        return self._control.new_id().replace("-", "")


def service(control: Control) -> QueryService:
    """Return the service."""
    handlers = Sts(control).handlers()
    api = xml_api.load("sts", "2011-06-15", handlers.keys())
    return QueryService(SERVICE, api, handlers, control.new_id)


def _session_policies(request: Request) -> tuple[str, ...]:
    """Return the policies that a session is limited by: documents, and ARNs of managed ones."""
    arns = [each["arn"] for each in request.get("PolicyArns", ())]
    return (*arns, *([document(request["Policy"])] if "Policy" in request else []))


def _trusts(role: Role | None, caller: Caller, place: Place, external_id: str | None) -> bool:
    """Tell if a role's trust policy allows the caller to assume it."""
    if role is None:
        return False
    known = {"aws:principalarn": caller.role or caller.arn, "aws:principalaccount": caller.account}
    if external_id is not None:
        known["sts:externalid"] = external_id
    arn = place.role_arn(role.name, role.path)
    question = Question(ASSUME_ROLE, arn, caller.arn, caller.account, known, caller.role)
    return judge_trust(trust_of(role), question) is Verdict.ALLOW
