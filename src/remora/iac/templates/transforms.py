"""
The transforms that a template declares, applied in their order.

Source: CloudFormation Template Reference, "Transform reference"; observed errors.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final

import msgspec

from remora.iac.templates.language import write_out
from remora.iac.templates.reading import (
    LANGUAGE,
    SERVERLESS,
    check_sections,
    check_values,
    invalid,
    language_of,
    transforms,
)
from remora.spec import limits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from remora.control.services.neighbour import ServiceError

_log = logging.getLogger("remora.iac")

# Not one variable of the node's: the translator must find neither credentials nor a place to use them.
_QUIET: Final = {
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
_encode: Final = msgspec.json.Encoder().encode
_APPLICATION: Final = "AWS::Serverless::Application"
_SAID_BYTES: Final = 2_000


def declared(document: Mapping[str, Any]) -> tuple[str, ...]:
    """
    Return the names of the transforms that a template declares, in its order.

    Raises:
        ServiceError: If its Transform section is malformed.
    """
    return transforms(document)


async def expand(
    document: Mapping[str, Any],
    parameters: Mapping[str, str],
    region: str,
    *,
    turns: asyncio.Semaphore | None = None,
) -> dict[str, Any]:
    """
    Apply the transforms of a template.

    Args:
        document: The template as it was read; it stays as it is.
        parameters: Values by name; where there is none, the default counts.
        region: What `AWS::Region` is.
        turns: Bounds how many processes translate at once.

    Returns:
        The template without transforms; it still declares AWS::LanguageExtensions if it uses its functions,
        which are evaluated with all others.

    Raises:
        ServiceError: ValidationError: a transform that there is not, or its complaint about the template.

    **Cancellation:** the process of a transform has ended.
    """
    names = declared(document)
    strange = [name for name in names if name not in {LANGUAGE, SERVERLESS}]
    if strange:
        raise invalid(f"No transform named {strange[0][:128]} found.")
    if SERVERLESS in names and LANGUAGE in names[names.index(SERVERLESS) :]:
        raise invalid(f"Transform {LANGUAGE} must be listed before {SERVERLESS}.")
    expanded = {name: section for name, section in document.items() if name != "Transform"}
    if LANGUAGE in names:
        expanded = await asyncio.to_thread(write_out, expanded, parameters, region)
    if SERVERLESS in names:
        _check_applications(expanded)
        async with turns or nullcontext():
            expanded = await _translate({**expanded, "Transform": SERVERLESS}, parameters, region)
    if LANGUAGE in names and language_of(expanded):
        expanded["Transform"] = LANGUAGE
    check_values(expanded)
    check_sections(expanded)
    if len(_encode(expanded)) > limits.TEMPLATE_BYTES_MAX:
        raise invalid(
            f"Template may not exceed {limits.TEMPLATE_BYTES_MAX} bytes in size after its transforms."
        )
    return expanded


def _check_applications(document: Mapping[str, Any]) -> None:
    """Refuse nested applications, for which the translator would ask AWS."""
    resources = document["Resources"].values()
    if any(isinstance(each, dict) and each.get("Type") == _APPLICATION for each in resources):
        raise invalid(f"Template format error: Unrecognized resource types: [{_APPLICATION}]")


async def _translate(
    document: Mapping[str, Any], parameters: Mapping[str, str], region: str
) -> dict[str, Any]:
    request = json.dumps({"template": document, "parameters": dict(parameters), "region": region})
    # -P: the directory that the node was started in is not a place to import from.
    words = (sys.executable, "-P", "-m", "remora.iac.templates.sam")
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LANG") if name in os.environ}
    process = await asyncio.create_subprocess_exec(
        *words,
        env={**kept, **_QUIET},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(limits.TEMPLATE_TRANSFORM_S):
            reply, said = await process.communicate(request.encode())
    except TimeoutError as error:
        raise _failed(f"It took longer than {limits.TEMPLATE_TRANSFORM_S} seconds.") from error
    finally:
        await asyncio.shield(_end(process))
    return _read(reply, said, process.returncode)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill a process that has not ended, and wait for its end."""
    if process.returncode is None:
        process.kill()
        await process.wait()


def _read(reply: bytes, said: bytes, code: int | None) -> dict[str, Any]:
    try:
        outcome = json.loads(reply)
    except (ValueError, RecursionError):
        outcome = None
    outcome = outcome if isinstance(outcome, dict) else {}
    if "error" in outcome:
        raise _failed(str(outcome["error"]))
    template = outcome.get("template")
    if code != 0 or not isinstance(template, dict):
        _log.warning(
            "the transform %s ended with %s: %s",
            SERVERLESS,
            code,
            said[-_SAID_BYTES:].decode(errors="replace"),
        )
        raise invalid(f"Transform {SERVERLESS} failed without an error message.")
    return template


def _failed(why: str) -> ServiceError:
    return invalid(f"Transform {SERVERLESS} failed with: {why}")
