"""Signs requests to a node that asks for it, with the credentials that AWS's own tools would take."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import botocore.session
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError

from remora.cli.errors import UNREACHABLE, CommandError

if TYPE_CHECKING:
    import http.client
    from collections.abc import Mapping
    from urllib.parse import SplitResult

_SCOPE = "remora"
_HEALTH = "/_remora/health"


def signed_headers(
    connection: http.client.HTTPConnection, url: SplitResult, method: str, target: str
) -> Mapping[str, str]:
    """
    Return the headers of a signed request; the node is asked for its region first.

    Args:
        connection: An open connection to the node.
        url: The node's endpoint.
        method: HTTP method.
        target: Path and query.

    Raises:
        CommandError: If there are no credentials.
        OSError: If the node does not answer, as http.client says it.
    """
    connection.request("GET", url.path.rstrip("/") + _HEALTH)
    region = json.loads(connection.getresponse().read())["region"]
    try:
        credentials = botocore.session.get_session().get_credentials()
    except BotoCoreError as error:
        raise CommandError(f"the credentials cannot be read: {error}", _HINT, UNREACHABLE) from error
    if credentials is None:
        raise CommandError("the node asks for a key, and there are no credentials", _HINT, UNREACHABLE)
    request = AWSRequest(method, f"{url.scheme}://{url.netloc}{target}")
    SigV4Auth(credentials, _SCOPE, region).add_auth(request)
    return dict(request.headers.items())


_HINT = "make one with `remora keys create NAME --data DIR` and export it as AWS_ACCESS_KEY_ID and its secret"
