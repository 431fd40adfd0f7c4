"""
What permissions requests to the services next to Lambda need.

Requests are read by the functions that the services themselves read them with: both see the same request.

Source: service authorization reference, the pages of Amazon S3, AWS IAM, AWS STS, AWS Systems Manager, Amazon
CloudWatch Logs, Amazon CloudWatch and Amazon Elastic Container Registry.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from remora.control.permissions.base import Need
from remora.control.rights import trust_of
from remora.control.services.logs import identified
from remora.control.services.neighbour import ServiceError, read_json
from remora.control.services.query import is_form, read_form
from remora.control.services.s3_bodies import content_of
from remora.control.services.s3_requests import copy_source, keys_to_delete, take_apart
from remora.resources.buckets import S3Error
from remora.spec.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from remora.control.context import Control
    from remora.control.services.s3_requests import Request
    from remora.http.exchange import Exchange
    from remora.resources.names import Place
    from remora.resources.view import View

_DOCUMENTS: Final = ("ecr", "logs", "monitoring", "ssm")
"""Services whose requests are JSON, and name their operation in a header."""
_PREFIXES: Final = {"monitoring": "cloudwatch"}
"""Services whose permissions begin otherwise than their scope is called."""

_BUCKET_PARTS: Final = {
    "accelerate": "AccelerateConfiguration",
    "acl": "BucketAcl",
    "cors": "BucketCORS",
    "encryption": "EncryptionConfiguration",
    "lifecycle": "LifecycleConfiguration",
    "location": "BucketLocation",
    "logging": "BucketLogging",
    "notification": "BucketNotification",
    "object-lock": "BucketObjectLockConfiguration",
    "ownershipControls": "BucketOwnershipControls",
    "policy": "BucketPolicy",
    "policyStatus": "BucketPolicyStatus",
    "publicAccessBlock": "BucketPublicAccessBlock",
    "replication": "ReplicationConfiguration",
    "requestPayment": "BucketRequestPayment",
    "tagging": "BucketTagging",
    "versioning": "BucketVersioning",
    "website": "BucketWebsite",
}
"""How permissions go on after Get and Put for what a query names of a bucket."""
_DELETED_PARTS: Final = ("policy", "website")
"""Those with a permission of their own to delete them; who may put the others may delete them."""
_OBJECT_PARTS: Final = {"acl": "ObjectAcl", "tagging": "ObjectTagging"}
_BUCKET_ACTIONS: Final = {
    "GET": "ListBucket",
    "HEAD": "ListBucket",
    "PUT": "CreateBucket",
    "DELETE": "DeleteBucket",
}
_OBJECT_ACTIONS: Final = {
    "GET": "GetObject",
    "HEAD": "GetObject",
    "PUT": "PutObject",
    "POST": "PutObject",
    "DELETE": "DeleteObject",
}
_UPLOAD_ACTIONS: Final = {
    "GET": "ListMultipartUploadParts",
    "PUT": "PutObject",
    "POST": "PutObject",
    "DELETE": "AbortMultipartUpload",
}
_OF_STREAMS: Final = ("CreateLogStream", "DeleteLogStream", "GetLogEvents", "PutLogEvents")


async def needs_of_neighbour(control: Control, exchange: Exchange, service: str) -> list[Need]:
    """Return the permissions that a request to a service next to Lambda needs."""
    if service == "s3":
        account = {"s3:resourceaccount": control.place.account}
        needs = await _needs_of_s3(exchange)
        return [need._replace(context={**need.context, **account}) for need in needs]
    if sends_document(exchange, service):
        return _needs_of_document(control, exchange, service)
    if service == "cloudformation":
        return _needs_of_stack(control, exchange)
    return [_need_of_form(control, exchange, service)]


def sends_document(exchange: Exchange, service: str) -> bool:
    """Tell if a request is JSON, and its answer, too; CloudWatch takes forms as well."""
    return service in _DOCUMENTS and not (service == "monitoring" and is_form(exchange))


async def _needs_of_s3(exchange: Exchange) -> list[Need]:
    """Return the permissions that a request to S3 needs."""
    request = take_apart(exchange)
    method, bucket = exchange.method.decode("latin-1"), f"arn:aws:s3:::{request.bucket}"
    if not request.bucket:
        return [Need("s3:ListAllMyBuckets")]
    if not request.key:
        if method == "POST" and "delete" in request.query:
            return await _deletions(exchange, bucket)
        context = _listing(request)
        return [Need(f"s3:{each}", bucket, context=context) for each in _bucket_actions(request, method)]
    needs = [Need(f"s3:{each}", f"{bucket}/{request.key}") for each in _object_actions(request, method)]
    if method == "PUT" and request.header(b"x-amz-tagging"):
        needs.append(Need("s3:PutObjectTagging", f"{bucket}/{request.key}"))
    if source := copy_source(request):
        needs.append(Need("s3:GetObject", f"arn:aws:s3:::{'/'.join(source)}"))
    return needs


def _bucket_actions(request: Request, method: str) -> list[str]:
    """Return what a request may mean: each part that its query names, or the bucket itself."""
    parts = [name for name in _BUCKET_PARTS if name in request.query]
    found = ["ListBucketVersions"] if "versions" in request.query else []
    for part in parts:
        verb = "Delete" if method == "DELETE" and part in _DELETED_PARTS else "Put"
        found.append(f"{'Get' if method == 'GET' else verb}{_BUCKET_PARTS[part]}")
    return found or [_BUCKET_ACTIONS.get(method, "Unknown")]


def _object_actions(request: Request, method: str) -> list[str]:
    """Return what a request may mean: each part that its query names, or the object itself."""
    found = [
        f"{method.capitalize()}{action}" for part, action in _OBJECT_PARTS.items() if part in request.query
    ]
    if "uploadId" in request.query:
        found.append(_UPLOAD_ACTIONS.get(method, "Unknown"))
    if found:
        return found
    action = _OBJECT_ACTIONS.get(method, "Unknown")
    is_versioned = "versionId" in request.query and method in {"GET", "HEAD", "DELETE"}
    return [f"{action}Version" if is_versioned else action]


async def _deletions(exchange: Exchange, bucket: str) -> list[Need]:
    try:
        keys, _ = await asyncio.to_thread(lambda: keys_to_delete(content_of(exchange)))
    except (ApiError, S3Error):
        keys = ["*"]  # the service refuses what it cannot read, too
    return [Need("s3:DeleteObject", f"{bucket}/{key}") for key in keys] or [Need("s3:DeleteObject", bucket)]


def _listing(request: Request) -> dict[str, str]:
    names = ("prefix", "delimiter", "max-keys")
    return {f"s3:{name}": request.one(name) for name in names if name in request.query}


def _need_of_form(control: Control, exchange: Exchange, service: str) -> Need:
    """Return the permission that a request to IAM, STS or CloudWatch needs."""
    try:
        form = read_form(exchange.body or exchange.query)
    except ServiceError:
        form = {}
    name = form.get("Action", "")
    action = f"{_PREFIXES.get(service, service)}:{name}"
    if service == "sts":
        arn = form.get("RoleArn", "*") if name == "AssumeRole" else "*"
        role = control.state.view.role_by_arn(control.place, arn)
        policy = trust_of(role) if role is not None else ()
        return Need(action, arn, policy, _given(form, {"sts:externalid": "ExternalId"}))
    if service != "iam":
        return Need(action)
    context = _given(form, {"iam:policyarn": "PolicyArn", "iam:permissionsboundary": "PermissionsBoundary"})
    return Need(action, _iam_resource(control.state.view, control.place, name, form), context=context)


def _needs_of_stack(control: Control, exchange: Exchange) -> list[Need]:
    """Return the permissions that a request to CloudFormation needs; a role that is handed on, too."""
    try:
        form = read_form(exchange.body or exchange.query)
    except ServiceError:
        form = {}
    place, view = control.place, control.state.view
    name = form.get("StackName", "")
    known = view.change_sets.get(form.get("ChangeSetName", ""))
    if known is not None:
        resource = known.stack_id
    elif name.startswith("arn:"):
        resource = name
    else:
        found = next(
            (each for each in view.stacks.values() if each.name == name and not each.is_deleted), None
        )
        start = f"arn:aws:cloudformation:{place.region}:{place.account}:stack/{name}"
        resource = found.stack_id if found is not None else f"{start}/*" if name else "*"
    needs = [Need(f"cloudformation:{form.get('Action', '')}", resource)]
    if "RoleARN" in form:
        context = {"iam:passedtoservice": "cloudformation.amazonaws.com"}
        needs.append(Need("iam:PassRole", form["RoleARN"], context=context))
    return needs


def _given(form: Mapping[str, str], keys: Mapping[str, str]) -> dict[str, str]:
    return {key: form[member] for key, member in keys.items() if member in form}


def _iam_resource(view: View, place: Place, operation: str, form: Mapping[str, str]) -> str:
    """Return what an operation is about: its name tells if it is a role or a policy."""
    path = form.get("Path", "/")
    if operation in ("ListPolicies", "ListRoles"):
        return "*"
    if "Role" in operation:
        name = form.get("RoleName", "")
        role = view.roles.get(name)
        return place.role_arn(name, role.path if role is not None else path)
    if operation == "CreatePolicy":
        return place.policy_arn(form.get("PolicyName", ""), path)
    return form.get("PolicyArn", "*")


def _needs_of_document(control: Control, exchange: Exchange, service: str) -> list[Need]:
    """
    Return the permissions that a request to ECR, Logs, CloudWatch or Systems Manager needs.

    Whatever it names that could be meant, it needs the permission for.
    """
    name = (exchange.header(b"x-amz-target") or b"").decode("latin-1").partition(".")[2]
    try:
        request = read_json(exchange.body)
    except ServiceError:
        request = None  # the service refuses it, too
    found: list[str] = []
    if isinstance(request, dict) and service == "ssm":
        names = _texts(request, "Name", "Names", "Path", "ResourceId")
        found = [control.place.parameter_arn(each) for each in names]
    elif isinstance(request, dict) and service == "ecr":
        names = _texts(request, "repositoryName", "repositoryNames")
        found = [control.place.repository_arn(each) for each in names] + _texts(request, "resourceArn")
    elif isinstance(request, dict) and service == "logs":
        found = _log_groups(control.place, name, request)
    return [Need(f"{_PREFIXES.get(service, service)}:{name}", resource) for resource in found or ["*"]]


def _log_groups(place: Place, operation: str, request: Mapping[str, Any]) -> list[str]:
    groups = _texts(request, "logGroupName")
    for text in _texts(request, "logGroupIdentifier", "logGroupIdentifiers", "resourceArn"):
        with suppress(ServiceError):
            groups.append(identified(text))
    stream = "".join(_texts(request, "logStreamName")) if operation in _OF_STREAMS else ""
    start = f"arn:aws:logs:{place.region}:{place.account}:log-group:"
    return [f"{start}{group}:log-stream:{stream}" for group in groups or [""]]


def _texts(request: Mapping[str, Any], *members: str) -> list[str]:
    """Return the texts that members have, alone or in lists."""
    found = [request[member] for member in members if member in request]
    flat = [text for each in found for text in (each if isinstance(each, list) else [each])]
    return [text for text in flat if isinstance(text, str)]
