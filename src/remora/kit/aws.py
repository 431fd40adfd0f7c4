"""Clients of AWS, or of what stands in for it at an address that the operator named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.config import Config
from botocore.credentials import EnvProvider

from remora.kit.endpoints import REAL

if TYPE_CHECKING:
    from botocore.session import Session


def new_client(session: Session, service: str, region: str, endpoint: str, *, attempts: int = 3) -> Any:
    """
    Make a client; takes long, and may be used from several threads.

    Its credentials are found as every AWS tool finds them; for other endpoints than AWS's in the environment
    only, and if there are none, any do.

    Args:
        session: Of botocore.
        service: As botocore calls it.
        region: `us-east-1`.
        endpoint: See `remora.kit.endpoints`; other variables that name one do not count.
        attempts: How often a request is sent, until it is answered; each may take 25 s.

    Raises:
        BotoCoreError: If it could not be made.
    """
    config = Config(
        connect_timeout=5,
        read_timeout=20,
        retries={"mode": "standard", "total_max_attempts": attempts},
        ignore_configured_endpoint_urls=True,  # type: ignore[call-arg]
    )
    settings: dict[str, Any] = {}
    if endpoint != REAL:
        settings["endpoint_url"] = endpoint
        if EnvProvider().load() is None:  # no other place is asked: it may take seconds
            settings |= {"aws_access_key_id": "remora", "aws_secret_access_key": "remora"}
    return session.create_client(service, region, config=config, **settings)
