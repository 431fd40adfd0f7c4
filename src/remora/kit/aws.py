"""Clients of AWS, or of what stands in for it at an address that the operator named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from botocore.config import Config
from botocore.credentials import EnvProvider

from remora.kit.endpoints import REAL

if TYPE_CHECKING:
    from botocore.session import Session

_CONFIG: Final = Config(connect_timeout=5, read_timeout=20, retries={"mode": "standard", "max_attempts": 3})


def new_client(session: Session, service: str, region: str, endpoint: str) -> Any:
    """
    Make a client; takes long, and may be used from several threads.

    Its credentials are found as every AWS tool finds them; for other endpoints than AWS's in the environment
    only, and if there are none, any do.

    Args:
        session: Of botocore.
        service: As botocore calls it.
        region: `us-east-1`.
        endpoint: See `remora.kit.endpoints`.

    Raises:
        BotoCoreError: If it could not be made.
    """
    settings: dict[str, Any] = {}
    if endpoint != REAL:
        settings["endpoint_url"] = endpoint
        if EnvProvider().load() is None:  # no other place is asked: it may take seconds
            settings |= {"aws_access_key_id": "remora", "aws_secret_access_key": "remora"}
    return session.create_client(service, region, config=_CONFIG, **settings)
