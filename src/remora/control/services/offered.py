"""The services next to Lambda that live on the node's own records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remora.control.services import s3
from remora.control.services.s3 import S3

if TYPE_CHECKING:
    from remora.control.context import Control
    from remora.control.service import Service


def record_services(control: Control) -> dict[str, Service]:
    """Return the services, by their names in the scope of signatures."""
    return {s3.SERVICE: S3(control)}
