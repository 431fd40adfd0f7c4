"""
The gate of a node that asks for signatures: who calls, and whether they may.

The owner of a key may do everything. A role may do what its policies allow, and what the policy of a function
or layer allows it; nothing else, and nothing that is denied.

Source: AWS IAM user guide, "Policy evaluation logic"; service authorization reference, "AWS Lambda".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, unquote

import msgspec

from remora.auth.managed import MANAGED
from remora.auth.policy import Question, Verdict, judge, judge_resource, statements
from remora.auth.sigv4 import SignatureError
from remora.control.answers import write_error
from remora.control.front_door import LAMBDA
from remora.resources.names import parse_layer, resolve_function
from remora.spec import xml
from remora.spec.errors import ApiError
from remora.spec.lambda_api import Route

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from remora.control.callers import Caller, Callers
    from remora.control.context import Control
    from remora.http.exchange import Exchange

Statement = dict[str, Any]

_ACTIONS: Final = {
    "Invoke": "InvokeFunction",
    "InvokeWithResponseStream": "InvokeFunction",
    "GetLayerVersionByArn": "GetLayerVersion",
}
"""Operations whose permission is called otherwise."""
_PREFIXES: Final = {"monitoring": "cloudwatch"}
"""Services whose permissions begin otherwise than their scope is called."""
_OPEN: Final = ("sts:GetCallerIdentity",)
"""What needs no permission."""
_JSON_SERVICES: Final = ("logs", "monitoring", "ssm")
_FORMER: Final = {
    "MissingAuthenticationTokenException": "MissingAuthenticationToken",
    "UnrecognizedClientException": "InvalidClientTokenId",
    "InvalidSignatureException": "SignatureDoesNotMatch",
    "IncompleteSignatureException": "IncompleteSignature",
    "ExpiredTokenException": "ExpiredToken",
    "AccessDeniedException": "AccessDenied",
}
"""What the services that answer in XML call an error."""
_OBJECT_ACTIONS: Final = {
    "GET": "GetObject",
    "HEAD": "GetObject",
    "PUT": "PutObject",
    "DELETE": "DeleteObject",
}
_BUCKET_ACTIONS: Final = {
    "GET": "ListBucket",
    "HEAD": "ListBucket",
    "PUT": "CreateBucket",
    "DELETE": "DeleteBucket",
}


class Gate:
    """
    Lets requests in.

    Args:
        callers: Tells who signed a request.
        control: Records and names.
    """

    def __init__(self, callers: Callers, control: Control) -> None:
        self._callers = callers
        self._control = control

    def __repr__(self) -> str:
        return f"<Gate {self._callers!r}>"

    async def admits(self, exchange: Exchange, service: str) -> bool:
        """Tell if a complete request may be answered; one that may not has been refused."""
        try:
            caller = await self._callers.identify(exchange, service)
            self.authorise(caller, exchange, service)
            if service != LAMBDA:
                exchange.slot = caller  # for services that tell callers apart
        except SignatureError as error:
            self._refuse(exchange, service, error.code, error.message)
        except ApiError as error:
            self._refuse(exchange, service, error.code, error.message or "")
        else:
            return True
        return False

    def authorise(self, caller: Caller, exchange: Exchange, service: str) -> None:
        """
        Check that the caller may do what a request asks for.

        Raises:
            ApiError: AccessDeniedException; what is wrong with the name of a function.
        """
        if caller.role:
            action, resource, policy = self._asked(exchange, service)
            if action not in _OPEN:
                self.judge(caller, action, resource, policy)

    def judge(
        self,
        caller: Caller,
        action: str,
        resource: str,
        policy: Sequence[Statement],
        context: Mapping[str, str] | None = None,
    ) -> None:
        """
        Check that the caller may perform an action on a resource that has a policy of its own.

        Raises:
            ApiError: AccessDeniedException.
        """
        if not caller.role:
            return
        known = {
            "aws:principalarn": caller.role,
            "aws:principalaccount": self._control.place.account,
            **(context or {}),
        }
        question = Question(action, resource, caller.arn, self._control.place.account, known, caller.role)
        verdicts = (judge(self._statements(caller.role), question), judge_resource(policy, question))
        if Verdict.ALLOW in verdicts and Verdict.DENY not in verdicts:
            return
        why = f"because no identity-based policy allows the {action} action"
        if Verdict.DENY in verdicts:
            kind = "identity" if verdicts[0] is Verdict.DENY else "resource"
            why = f"with an explicit deny in {'an' if kind == 'identity' else 'a'} {kind}-based policy"
        text = f"User: {caller.arn} is not authorized to perform: {action} on resource: {resource} {why}"
        raise ApiError("AccessDeniedException", text)

    def _statements(self, role_arn: str) -> list[Statement]:
        """Return the statements of a role's policies; none if there is no such role."""
        role = self._control.state.view.roles.get(role_arn.rpartition("/")[2])
        if role is None:
            return []
        found = [statement for arn in role.attached for statement in MANAGED.get(arn, ())]
        for document in role.inline.values():
            found += statements(msgspec.json.decode(document))
        return found

    def _asked(self, exchange: Exchange, service: str) -> tuple[str, str, Sequence[Statement]]:
        """Return action and resource of a request, and the resource's own statements."""
        if service == LAMBDA:
            return self._asked_of_lambda(exchange)
        if service == "s3":
            return _asked_of_s3(exchange)
        target, resource = exchange.header(b"x-amz-target"), "*"
        if target is not None:
            name = target.decode("latin-1").rpartition(".")[2]
        else:
            form = dict(parse_qsl((exchange.body or exchange.query).decode("latin-1")))
            name = form.get("Action", "")
            if name == "AssumeRole":
                resource = form.get("RoleArn", "*")
        return f"{_PREFIXES.get(service, service)}:{name}", resource, ()

    def _asked_of_lambda(self, exchange: Exchange) -> tuple[str, str, Sequence[Statement]]:
        route = exchange.slot
        if not isinstance(route, Route):
            return "lambda:Unknown", "*", ()
        action = f"lambda:{_ACTIONS.get(route.operation.name, route.operation.name)}"
        labels = {name: unquote(value.decode("latin-1")) for name, value in route.labels.items()}
        query = dict(parse_qsl(exchange.query.decode("latin-1")))
        view, place = self._control.state.view, self._control.place
        name = labels.get("FunctionName") or labels.get("Resource") or labels.get("ResourceArn")
        if name:
            target = resolve_function(place, name, query.get("Qualifier") or labels.get("Qualifier"))
            policy = view.policies.get(target.name, {}).get(target.version)
            resource = place.function_arn(target.name, target.qualifier)
            return action, resource, policy.statements if policy is not None else ()
        name = labels.get("LayerName") or query.get("Arn")
        if name:
            layer = parse_layer(name)
            number = labels.get("VersionNumber", "")
            version = layer.version or (int(number) if number.isdecimal() else None)
            return action, place.layer_arn(layer.name, version), ()
        return action, "*", ()

    def _refuse(self, exchange: Exchange, service: str, code: str, message: str) -> None:
        request_id = self._control.new_id()
        if service == LAMBDA:
            write_error(exchange, request_id, ApiError(code, message))
            return
        headers = [(b"x-amzn-RequestId", request_id.encode())]
        if service in _JSON_SERVICES:
            body = msgspec.json.encode({"__type": code, "message": message})
            exchange.respond(400, [(b"Content-Type", b"application/x-amz-json-1.1"), *headers], body)
            return
        error = f"<Code>{_FORMER.get(code, code)}</Code><Message>{xml.text(message)}</Message>"
        document = f"<Error>{error}<RequestId>{request_id}</RequestId></Error>"
        if service != "s3":
            document = (
                f"<ErrorResponse><Error><Type>Sender</Type>{error}</Error>"
                f"<RequestId>{request_id}</RequestId></ErrorResponse>"
            )
        body = b"" if exchange.method == b"HEAD" else document.encode()
        exchange.respond(403, [(b"Content-Type", b"text/xml"), *headers], body)


def _asked_of_s3(exchange: Exchange) -> tuple[str, str, Sequence[Statement]]:
    bucket, _, key = unquote(exchange.path.decode("latin-1"))[1:].partition("/")
    method = exchange.method.decode("latin-1")
    if not bucket:
        return "s3:ListAllMyBuckets", "*", ()
    if not key:
        return f"s3:{_BUCKET_ACTIONS.get(method, 'DeleteObject')}", f"arn:aws:s3:::{bucket}", ()
    return f"s3:{_OBJECT_ACTIONS.get(method, 'PutObject')}", f"arn:aws:s3:::{bucket}/{key}", ()
