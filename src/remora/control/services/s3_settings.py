"""
Settings of buckets, their policies and access lists, and the tags of objects.

What is refused, because keeping it would promise what this node does not do: notifications, websites,
replication, locks, and access lists that grant anything.

Source: Amazon S3 API Reference; Amazon S3 User Guide, "Controlling ownership of objects and disabling ACLs".
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

import msgspec

from remora.auth.documents import DocumentError, check_resource_policy
from remora.control.services.s3_answers import NAMESPACE
from remora.control.services.s3_bodies import content_of
from remora.resources import buckets
from remora.resources.bucket_settings import POLICY, SETTINGS, find_setting, put_setting
from remora.resources.buckets import S3Error
from remora.resources.view import Change, View
from remora.spec import constraints, xml, xml_api

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from remora.control.context import Control
    from remora.control.services.s3_answers import Answers
    from remora.control.services.s3_requests import Request
    from remora.http.exchange import Header
    from remora.resources.bucket_settings import Setting

Operations = dict[bytes, "Callable[[Request], Awaitable[None]]"]
"""By HTTP method."""

_POLICY_BYTES_MAX: Final = 20 * 1024
_BUCKET_TAGS_MAX: Final = 50
_OBJECT_TAGS_MAX: Final = 10
_TRANSITION: Final = b"x-amz-transition-default-minimum-object-size"
_TRANSITIONS: Final = ("all_storage_classes_128K", "varies_by_storage_class")
"""The one setting that is a header; the first is what it is if it is not given."""
_HARMLESS_ACLS: Final = ("", "private", "bucket-owner-full-control")
_XSI: Final = "http://www.w3.org/2001/XMLSchema-instance"


class Settings:
    """
    Performs the operations.

    Args:
        control: The node's parts.
        answers: Sends their replies.
    """

    def __init__(self, control: Control, answers: Answers) -> None:
        self._control = control
        self._answers = answers
        puts = [each.put for each in SETTINGS.values() if each.put]
        self._api = xml_api.load("s3", "2006-03-01", [*puts, "PutObjectTagging", "GetBucketPolicyStatus"])

    def __repr__(self) -> str:
        return f"<Settings {self._api}>"

    def of_bucket(self, query: Mapping[str, list[str]]) -> Operations | None:
        """Return the operations on the setting that a query names; None if it names none."""
        if POLICY in query:
            return {b"GET": self._get_policy, b"PUT": self._put_policy, b"DELETE": self._delete(POLICY)}
        if "policyStatus" in query:
            return {b"GET": self._get_policy_status}
        if "acl" in query:
            return {b"GET": self._get_acl, b"PUT": self._put_acl}
        name = next((each for each in SETTINGS if each in query), None)
        if name is None:
            return None
        setting = SETTINGS[name]
        found: Operations = {b"GET": self._get(name, setting)}
        if setting.put:
            found[b"PUT"] = self._put(name, setting)
        if setting.is_deletable:
            found[b"DELETE"] = self._delete(name)
        return found

    def of_object(self, query: Mapping[str, list[str]]) -> Operations | None:
        """Return the operations on what a query names of an object; None if it names nothing of it."""
        if "tagging" in query:
            return {b"GET": self._get_tags, b"PUT": self._put_tags, b"DELETE": self._delete_tags}
        if "acl" in query:
            return {b"GET": self._get_acl, b"PUT": self._put_acl}
        return None

    # --- settings that are documents ----------------------------------------------------------------------

    def _get(self, name: str, setting: Setting) -> Callable[[Request], Awaitable[None]]:
        async def perform(request: Request) -> None:
            value = dict(find_setting(self._control.state.view, request.bucket, name))
            headers: list[Header] = []
            if name == "lifecycle":
                headers.append((_TRANSITION, value.pop(_TRANSITION.decode(), _TRANSITIONS[0]).encode()))
            shape, element = self._document(setting.put)
            document = xml.write(self._api.shapes, shape, value, element, NAMESPACE)
            self._answers.send_xml(request, document, headers=headers)

        return perform

    def _put(self, name: str, setting: Setting) -> Callable[[Request], Awaitable[None]]:
        async def perform(request: Request) -> None:
            value = await self._read(request, setting.put)
            headers: list[Header] = []
            if name == "lifecycle":
                headers = [(_TRANSITION, _transition(request).encode())]
                value[_TRANSITION.decode()] = _transition(request)
            _check(name, value)
            await self._set(request, name, value)
            self._answers.send(request, 204 if name == "tagging" else 200, headers)

        return perform

    def _delete(self, name: str) -> Callable[[Request], Awaitable[None]]:
        async def perform(request: Request) -> None:
            await self._set(request, name, None)
            self._answers.send(request, 204)

        return perform

    async def _set(self, request: Request, name: str, value: Any) -> None:
        await self._control.state.change(lambda view: (None, put_setting(view, request.bucket, name, value)))

    def _document(self, operation: str) -> tuple[Any, str]:
        """Return the shape of the document that an operation takes, and what it is called."""
        shape = self._api.operations[operation].input
        assert shape is not None, f"{operation} has an input"
        assert shape.payload is not None, f"{operation} takes a document"
        member = shape.members[shape.payload]
        return self._api.shapes[member.shape], member.wire_name

    async def _read(self, request: Request, operation: str) -> dict[str, Any]:
        """Read and check the document of a request; what the model does not allow becomes MalformedXML."""
        shape, _ = self._document(operation)
        content = await asyncio.to_thread(content_of, request.exchange)
        value = xml.parse(self._api.shapes, shape, content)
        constraints.check(self._api.shapes, shape, value)
        return value

    # --- policies and access lists ------------------------------------------------------------------------

    async def _get_policy(self, request: Request) -> None:
        policy: str = find_setting(self._control.state.view, request.bucket, POLICY)
        self._answers.send(request, 200, [(b"Content-Type", b"application/json")], policy.encode())

    async def _put_policy(self, request: Request) -> None:
        content = await asyncio.to_thread(content_of, request.exchange)
        if len(content) > _POLICY_BYTES_MAX:
            raise S3Error("PolicyTooLarge", f"A policy may have {_POLICY_BYTES_MAX} bytes.")
        try:
            policy = content.decode()
            check_resource_policy(policy, names_resources=True)
        except UnicodeDecodeError as error:
            raise S3Error("MalformedPolicy", "Policies must be valid JSON") from error
        except DocumentError as error:
            raise S3Error("MalformedPolicy", str(error)) from error
        await self._set(request, POLICY, policy)
        self._answers.send(request, 204)

    async def _get_policy_status(self, request: Request) -> None:
        policy = find_setting(self._control.state.view, request.bucket, POLICY)
        shape = self._api.shapes["PolicyStatus"]
        value = {"IsPublic": _is_public(policy)}
        self._answers.send_xml(request, xml.write(self._api.shapes, shape, value, "PolicyStatus", NAMESPACE))

    async def _get_acl(self, request: Request) -> None:
        self._find(request)
        owner = f"<ID>{hashlib.sha256(self._control.place.account.encode()).hexdigest()}</ID>"
        grantee = f'<Grantee xmlns:xsi="{_XSI}" xsi:type="CanonicalUser">{owner}</Grantee>'
        grant = f"<Grant>{grantee}<Permission>FULL_CONTROL</Permission></Grant>"
        document = (
            f'<AccessControlPolicy xmlns="{NAMESPACE}"><Owner>{owner}</Owner>'
            f"<AccessControlList>{grant}</AccessControlList></AccessControlPolicy>"
        )
        self._answers.send_xml(request, document)

    async def _put_acl(self, request: Request) -> None:
        self._find(request)
        grants = any(name.startswith(b"x-amz-grant-") for name, _ in request.exchange.headers)
        if grants or request.exchange.body.strip() or request.header(b"x-amz-acl") not in _HARMLESS_ACLS:
            raise S3Error("AccessControlListNotSupported", "The bucket does not allow ACLs")
        self._answers.send(request, 200)

    def _find(self, request: Request) -> None:
        view = self._control.state.view
        if request.key:
            buckets.find_object(view, request.bucket, request.key)
        else:
            buckets.find_bucket(view, request.bucket)

    # --- tags of objects ----------------------------------------------------------------------------------

    async def _get_tags(self, request: Request) -> None:
        tags = buckets.find_object(self._control.state.view, request.bucket, request.key).tags
        value = {"TagSet": [{"Key": key, "Value": text} for key, text in tags.items()]}
        shape, element = self._document("PutObjectTagging")
        self._answers.send_xml(request, xml.write(self._api.shapes, shape, value, element, NAMESPACE))

    async def _put_tags(self, request: Request) -> None:
        value = await self._read(request, "PutObjectTagging")
        await self._retag(request, _tags(value["TagSet"], _OBJECT_TAGS_MAX))
        self._answers.send(request, 200)

    async def _delete_tags(self, request: Request) -> None:
        await self._retag(request, {})
        self._answers.send(request, 204)

    async def _retag(self, request: Request, tags: dict[str, str]) -> None:
        def decide(view: View) -> tuple[None, list[Change]]:
            found = buckets.find_object(view, request.bucket, request.key)
            tagged = msgspec.structs.replace(found, tags=tags)
            return None, [Change("object", f"{request.bucket}/{request.key}", tagged)]

        await self._control.state.change(decide)


def first_settings(request: Request, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the settings that a bucket is made with.

    Args:
        request: CreateBucket.
        wanted: Its document.

    Raises:
        S3Error: If this node does not offer one.
    """
    settings: dict[str, Any] = {}
    if wanted.get("Tags"):
        _check("tagging", {"TagSet": wanted["Tags"]})
        settings["tagging"] = {"TagSet": wanted["Tags"]}
    if ownership := request.header(b"x-amz-object-ownership"):
        settings["ownershipControls"] = {"Rules": [{"ObjectOwnership": ownership}]}
    if request.header(b"x-amz-bucket-object-lock-enabled").lower() == "true":
        raise S3Error("NotImplemented", "This node has no object lock.", 501)
    return settings


def tags_of_upload(request: Request) -> dict[str, str]:
    """
    Return the tags that an uploader gives an object in a header.

    Raises:
        S3Error: If they are none, or too many.
    """
    try:
        pairs = parse_qsl(request.header(b"x-amz-tagging"), keep_blank_values=True, strict_parsing=True)
    except ValueError as error:
        if not request.header(b"x-amz-tagging"):
            return {}
        text = "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters"
        raise S3Error("InvalidArgument", text) from error
    return _tags([{"Key": key, "Value": text} for key, text in pairs], _OBJECT_TAGS_MAX)


def _check(name: str, value: Mapping[str, Any]) -> None:
    """Refuse what is well-formed, but cannot be kept."""
    if name == "tagging":
        _tags(value["TagSet"], _BUCKET_TAGS_MAX)
    if name == "notification" and value:
        text = "This node sends no notifications about objects: a configuration of them must be empty."
        raise S3Error("NotImplemented", text, 501)
    if name == "logging" and "TargetGrants" in value.get("LoggingEnabled", {}):
        raise S3Error("InvalidBucketAclWithObjectOwnership", "Bucket does not allow target grants.")


def _tags(given: list[Mapping[str, str]], count_max: int) -> dict[str, str]:
    tags = {each["Key"]: each["Value"] for each in given}
    if len(tags) < len(given):
        raise S3Error("InvalidTag", "Cannot provide multiple Tags with the same key")
    if len(tags) > count_max:
        raise S3Error("BadRequest", f"Object tags cannot be greater than {count_max}")
    return tags


def _transition(request: Request) -> str:
    found = request.header(_TRANSITION) or _TRANSITIONS[0]
    if found not in _TRANSITIONS:
        raise S3Error("InvalidRequest", f"{_TRANSITION.decode()} must be one of {', '.join(_TRANSITIONS)}")
    return found


def _is_public(policy: str) -> bool:
    """Tell if a policy allows everybody something, without a condition."""
    found = msgspec.json.decode(policy)["Statement"]
    for statement in [found] if isinstance(found, dict) else found:
        principal = statement.get("Principal")
        named = principal.get("AWS", []) if isinstance(principal, dict) else principal
        everybody = "*" in (named if isinstance(named, list) else [named])
        if statement["Effect"] == "Allow" and "Condition" not in statement and everybody:
            return True
    return False
