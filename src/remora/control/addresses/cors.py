"""
Cross-origin rules of a function URL: which headers answers get, and the answer to a preflight. Pure.

Source: control-plane specification, B.13; AWS Lambda Developer Guide, "Creating and managing Lambda function
URLs", cross-origin resource sharing; shape Cors of the Lambda API model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

ANY: Final = "*"
Headers = list[tuple[str, str]]


def is_preflight(method: str, headers: Mapping[str, str]) -> bool:
    """Tell whether a browser only asks what it may do; `headers` have names in lower case."""
    return method == "OPTIONS" and "origin" in headers and "access-control-request-method" in headers


def preflight(cors: Mapping[str, Any], headers: Mapping[str, str]) -> Headers:
    """Return the headers of the answer to a preflight; without a right there are none of them."""
    answer = allowed(cors, headers.get("origin"))
    if not answer:
        return []
    answer = [pair for pair in answer if pair[0] != "Access-Control-Expose-Headers"]
    wished_method = headers["access-control-request-method"]
    methods = cors.get("AllowMethods") or []
    if ANY in methods:
        answer.append(("Access-Control-Allow-Methods", wished_method))
    elif methods:
        answer.append(("Access-Control-Allow-Methods", ",".join(methods)))
    names = cors.get("AllowHeaders") or []
    wished = headers.get("access-control-request-headers")
    if ANY in names and wished:
        answer.append(("Access-Control-Allow-Headers", wished))
    elif names and ANY not in names:
        answer.append(("Access-Control-Allow-Headers", ",".join(names)))
    if cors.get("MaxAge"):
        answer.append(("Access-Control-Max-Age", str(cors["MaxAge"])))
    return answer


def allowed(cors: Mapping[str, Any], origin: str | None) -> Headers:
    """Return the headers that any answer to `origin` gets; none if it has no right."""
    origins = cors.get("AllowOrigins") or []
    if origin is None or not any(_matches(each, origin) for each in origins):
        return []
    has_credentials = bool(cors.get("AllowCredentials"))
    is_open = ANY in origins and not has_credentials
    answer = [("Access-Control-Allow-Origin", ANY if is_open else origin)]
    if not is_open:
        answer.append(("Vary", "Origin"))
    if has_credentials:
        answer.append(("Access-Control-Allow-Credentials", "true"))
    if cors.get("ExposeHeaders"):
        answer.append(("Access-Control-Expose-Headers", ",".join(cors["ExposeHeaders"])))
    return answer


def _matches(pattern: str, origin: str) -> bool:
    if pattern == ANY:
        return True
    return pattern.lower() == origin.lower()
