"""
What a type of resource is, and what its functions are given.

A type is a table of properties and three functions, which call the node's services as the one who deploys.
`create` ends when the resource is ready to use; if it fails half-way, it removes what it made (after a kill
nobody does: then the engine deletes what `predicted_id` names). `update` is given the former properties and
the new ones, which differ in none that replaces. `delete` succeeds if there is nothing to delete any more.

Source: control-plane specification, section D; AWS CloudFormation Template Reference.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from remora.iac.calls import CallFailed
from remora.iac.types.shapes import TAGS
from remora.resources.names import Target, resolve_function
from remora.spec.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from remora.iac.types.shapes import Shape
    from remora.resources.names import Place

Properties = Mapping[str, Any]
"""Of one resource, resolved: nothing in them is to be evaluated any more."""
Call = Callable[[str, str, Mapping[str, Any]], Awaitable[dict[str, Any]]]
"""Calls an operation: service, operation, request in, reply out; raises CallFailed."""

_MISSING: Final = frozenset(
    {"ResourceNotFoundException", "ProvisionedConcurrencyConfigNotFoundException"}
    | {"NoSuchBucket", "NoSuchBucketPolicy", "404"}
    | {"NoSuchEntity", "ParameterNotFound", "InvalidResourceId"}
    | {"RepositoryNotFoundException", "RepositoryPolicyNotFoundException", "LifecyclePolicyNotFoundException"}
)
"""What Lambda and Logs, S3, IAM and Systems Manager, and ECR call what is not there."""
_MALFORMED: Final = ("InvalidParameterException", "ValidationError", "ValidationException")
"""What services say of names and values that nothing can have by their models."""


class Until(Protocol):
    """Calls an operation that describes something, until it is as it should be."""

    async def __call__(
        self,
        service: str,
        operation: str,
        request: Mapping[str, Any],
        is_done: Callable[[dict[str, Any]], bool],
    ) -> dict[str, Any]:
        """
        Return the last reply.

        Raises:
            CallFailed: A call failed, or it took too long.
        """


@dataclass(frozen=True, slots=True)
class Context:
    """
    One resource of one stack.

    Args:
        logical_id: Its name in the template.
        stack_id: ARN of the stack.
        stack_name: Its name.
        place: Region and account of this node.
        name: The physical name: given in the properties, or generated before anything is made; whatever if
            the type has no `name_property`.
        tags: The stack's, and `aws:cloudformation:stack-name`, `-id` and `logical-id`.
        former_tags: What these were before the operation that is going on.
        token: A UUID for this creation: statement identifiers and the like are derived from it.
        call: Calls the node's services in the place of the one who deploys: `Calls.call`.
        until: As `call`, again and again: `Calls.until`.
    """

    logical_id: str
    stack_id: str
    stack_name: str
    place: Place
    name: str
    tags: Mapping[str, str]
    former_tags: Mapping[str, str]
    token: str
    call: Call
    until: Until


class Made(NamedTuple):
    """A resource that is ready to use: its physical identifier, and what Fn::GetAtt may ask for."""

    physical_id: str
    attributes: dict[str, Any]


class Property(NamedTuple):
    """
    A property that a type knows.

    Args:
        is_required: Whether there has to be one.
        replaces: Whether another value replaces the resource.
        shape: What it may be, as far as that is looked at; None: anything.
    """

    is_required: bool = False
    replaces: bool = False
    shape: Shape = None


def _unknown_before(_: Context, __: Properties) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class ResourceType:
    """
    A type of resource.

    Args:
        properties: All that it knows, by name.
        create: Makes one.
        update: Changes one: physical identifier, former and new properties.
        delete: Removes one: physical identifier, properties.
        attributes: What Fn::GetAtt may ask for.
        predicted_id: Returns the physical identifier that `create` will lead to, "" if nobody knows before.
        name_property: The property that names it; None if the service names it.
        name_length_max: Of the name, characters.
        name_is_lower: Whether the name is in lower case.
    """

    properties: Mapping[str, Property]
    create: Callable[[Context, Properties], Awaitable[Made]]
    update: Callable[[Context, str, Properties, Properties], Awaitable[Made]]
    delete: Callable[[Context, str, Properties], Awaitable[None]]
    attributes: frozenset[str] = frozenset()
    predicted_id: Callable[[Context, Properties], str] = _unknown_before
    name_property: str | None = None
    name_length_max: int = 255
    name_is_lower: bool = False


def by_name(context: Context, _: Properties) -> str:
    """Return the physical identifier of what is known by its name."""
    return context.name


def known(
    *others: str,
    required: Iterable[str] = (),
    replacing: Iterable[str] = (),
    shapes: Mapping[str, Shape] | None = None,
) -> dict[str, Property]:
    """
    Make a table of properties.

    Args:
        others: That may be absent, and may be changed.
        required: That there have to be.
        replacing: Whose change replaces the resource.
        shapes: Of some of them; `Tags` are a list of `Key` and `Value` if nothing else is said.
    """
    shapes = {"Tags": TAGS, **(shapes or {})}
    required, replacing = frozenset(required), frozenset(replacing)
    names = (*others, *sorted((required | replacing).difference(others)))
    return {name: Property(name in required, name in replacing, shapes.get(name)) for name in names}


async def never_changes(_: Context, physical_id: str, __: Properties, ___: Properties) -> Made:
    """Be what updates a type whose every property replaces: nobody can ask for that."""
    raise AssertionError(f"{physical_id} is replaced, not changed")


# --- steps that types have in common ------------------------------------------------------------------------


@asynccontextmanager
async def undoing(undo: Callable[[], Awaitable[object]]) -> AsyncIterator[None]:
    """
    Undo what was made if a call in the block fails.

    Args:
        undo: Removes it.

    Raises:
        CallFailed: The first failure; its text says so if what was made could not be removed.

    **Cancellation:** nothing is undone: only a node that stops cancels, and it goes on with the stack later.
    """
    try:
        yield
    except CallFailed as error:
        try:
            await undo()
        except CallFailed as another:
            text = f"{error.message} What was made before could not be removed: {another.message}"
            raise CallFailed(
                error.service, error.operation, error.code, text, error.status, request_id=error.request_id
            ) from error
        raise


async def remove(context: Context, service: str, operation: str, request: Mapping[str, Any]) -> None:
    """
    Call an operation that deletes something; what is not there (any more), or cannot be, is a success.

    Raises:
        CallFailed: It was refused for another reason.
    """
    try:
        await context.call(service, operation, request)
    except CallFailed as error:
        if not is_missing(error) and error.code not in _MALFORMED:
            raise


async def find(
    context: Context, service: str, operation: str, request: Mapping[str, Any]
) -> dict[str, Any] | None:
    """
    Call an operation that describes something; None if it is not there.

    Raises:
        CallFailed: It was refused for another reason.
    """
    try:
        return await context.call(service, operation, request)
    except CallFailed as error:
        if is_missing(error):
            return None
        raise


def is_missing(error: CallFailed) -> bool:
    """Tell if a call failed because what it was about is not there."""
    return error.code in _MISSING


def already_exists(kind: str, name: str) -> CallFailed:
    """Make the error of a resource that is there, but is none of this stack."""
    return CallFailed(
        "", "", "AlreadyExists", f"Resource of type '{kind}' with identifier '{name}' already exists."
    )


# --- values -------------------------------------------------------------------------------------------------


def chosen(properties: Properties, *names: str) -> dict[str, Any]:
    """Return those properties that there are of some."""
    return {name: properties[name] for name in names if properties.get(name) is not None}


def function_of(context: Context, text: Any, qualifier: Any = None) -> Target:
    """
    Return which function, version or alias a property names, by name or ARN.

    Raises:
        CallFailed: InvalidRequest: it is none of this node.
    """
    try:
        return resolve_function(context.place, str(text), None if qualifier is None else str(qualifier))
    except ApiError as error:
        raise CallFailed("", "", "InvalidRequest", error.message or f"{text} is out of reach.") from error


def changed(former: Properties, properties: Properties, *names: str) -> list[str]:
    """Return the names of those properties that differ of some."""
    return [name for name in names if former.get(name) != properties.get(name)]


def tag_map(context: Context, properties: Properties) -> dict[str, str]:
    """Return the tags of a resource: its own, and those that it has from the stack."""
    return {**context.tags, **_own_tags(properties)}


def tag_list(context: Context, properties: Properties) -> list[dict[str, str]]:
    """Return the tags of a resource as a list of `Key` and `Value`."""
    return as_tag_list(tag_map(context, properties))


def as_tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Return tags as a list of `Key` and `Value`."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def lost_tags(context: Context, former: Properties, properties: Properties) -> list[str]:
    """Return the keys of tags that a resource has no more."""
    kept = tag_map(context, properties)
    return [key for key in {**context.former_tags, **_own_tags(former)} if key not in kept]


def _own_tags(properties: Properties) -> dict[str, str]:
    return {str(tag["Key"]): _text(tag.get("Value", "")) for tag in properties.get("Tags") or ()}


def document(value: Any) -> str:
    """Return a policy as text: templates have it as an object, or as JSON."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
