"""
From a request to a program: templates found, transforms applied, parameters read, permissions asked for.

Source: AWS CloudFormation API Reference, CreateStack and CreateChangeSet; user guide, "Acknowledging IAM
resources in CloudFormation templates".
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit

import msgspec

from remora.control.services.neighbour import ServiceError
from remora.iac.calls import CallFailed
from remora.iac.stacks import invalid
from remora.iac.templates import transforms
from remora.iac.templates.checks import check_template
from remora.iac.templates.parameters import Parameter, read_parameters
from remora.iac.templates.program import compile_program
from remora.iac.templates.reading import read_template
from remora.resources.names import PARTITION
from remora.resources.stacks import StackParameter, Wanted
from remora.spec import limits

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from remora.control.callers import Caller
    from remora.control.context import Control
    from remora.iac.calls import Calls
    from remora.iac.templates.program import Program
    from remora.iac.types.base import ResourceType
    from remora.resources.stacks import Stack

_TRANSFORMS_AT_ONCE_MAX: Final = 2
"""Each is a process that takes a second of a processor and some hundred megabytes."""
_S3_HOST: Final = re.compile(r"s3(?:[.-][a-z0-9-]+)?\.amazonaws\.com(?:\.cn)?")
_IAM_NAMES: Final = {
    "AWS::IAM::Group": "GroupName",
    "AWS::IAM::InstanceProfile": "InstanceProfileName",
    "AWS::IAM::ManagedPolicy": "ManagedPolicyName",
    "AWS::IAM::Policy": "",
    "AWS::IAM::Role": "RoleName",
    "AWS::IAM::User": "UserName",
}
"""Types that give permissions, and the property that makes them custom-named."""


class TransformError(ServiceError):
    """What a transform refuses; a change set tells it, instead of not being made."""


class StackName(NamedTuple):
    """What a stack is called: its identifier and its name."""

    stack_id: str
    name: str


class Prepared(NamedTuple):
    """
    What a stack is asked to be.

    Args:
        wanted: For its record.
        texts: Templates that the record refers to, by digest.
        program: What is to be made.
    """

    wanted: Wanted
    texts: Mapping[str, str]
    program: Program


class Preparation:
    """
    Prepares stacks.

    Args:
        control: The node's parts.
        types: What resources there can be.
        calls: The node's own services.
    """

    def __init__(self, control: Control, types: Mapping[str, ResourceType], calls: Calls) -> None:
        self._control = control
        self._types = types
        self._calls = calls
        self._turns = asyncio.Semaphore(_TRANSFORMS_AT_ONCE_MAX)

    def __repr__(self) -> str:
        return f"<Preparation types={len(self._types)}>"

    async def text_of(self, request: Mapping[str, Any], caller: Caller | None) -> str:
        """
        Return the template that a request holds, or points to.

        Raises:
            ServiceError: ValidationError if it has none, or two; if it cannot be read, or is too long.
        """
        body, url = request.get("TemplateBody"), request.get("TemplateURL")
        if (body is None) == (url is None):
            raise invalid("Either Template URL or Template Body must be specified.")
        if body is not None:
            text: str = body
            if len(text.encode()) > limits.TEMPLATE_BODY_BYTES_MAX:
                raise _too_long("templateBody", limits.TEMPLATE_BODY_BYTES_MAX)
            return text
        return await self._fetch(url or "", caller)

    def check(self, document: dict[str, Any]) -> None:
        """
        Check a template without values for its parameters; what its transforms will make is not looked at.

        Raises:
            ServiceError: ValidationError.
        """
        if not transforms.declared(document):
            check_template(document, self._types.keys())

    async def prepare(
        self, request: Mapping[str, Any], of: StackName, stack: Stack | None, caller: Caller | None
    ) -> Prepared:
        """
        Work out what a request asks for.

        Args:
            request: Of CreateStack, UpdateStack or CreateChangeSet.
            of: The stack.
            stack: As it is; None if it is new, or nothing was made yet.
            caller: Who asks; None if nobody is asked for keys.

        Raises:
            TransformError: If a transform refuses the template.
            ServiceError: ValidationError or InsufficientCapabilitiesException.
        """
        if request.get("UsePreviousTemplate"):
            if stack is None:
                raise invalid("The template of a stack that does not exist cannot be used.")
            text = self._control.state.view.templates[stack.wanted.template].body
        else:
            text = await self.text_of(request, caller)
        before = stack.wanted if stack is not None else None
        document = await asyncio.to_thread(read_template, text)
        used: set[str] = set()
        # Patterns of parameters are matched by another process.
        parameters = await asyncio.to_thread(
            read_parameters, document, _given(request, before), self._ssm(used)
        )
        declared = transforms.declared(document)
        processed = text
        if declared:
            values = {name: each.resolved for name, each in parameters.items()}
            try:
                region = self._control.place.region
                document = await transforms.expand(document, values, region, turns=self._turns)
            except ServiceError as error:
                raise TransformError(error.code, error.message, error.status) from error
            processed = msgspec.json.encode(document).decode()
        check_capabilities(document, request.get("Capabilities", ()))
        texts = {digest_of(each): each for each in (text, processed)}
        wanted = Wanted(
            template=digest_of(text),
            processed=digest_of(processed),
            description=str(document.get("Description", "")),
            parameters={
                name: StackParameter(each.value, each.resolved, each.is_secret)
                for name, each in parameters.items()
            },
            tags=_tags(request["Tags"]) if "Tags" in request else before.tags if before is not None else {},
            capabilities=tuple(request.get("Capabilities", ())),
            notification_arns=tuple(request.get("NotificationARNs", ())),
            role_arn=request.get("RoleARN", before.role_arn if before is not None else ""),
        )
        program, imports = await self._compile(document, wanted, of, used)
        await self._check_readable(used, caller)
        return Prepared(msgspec.structs.replace(wanted, imports=tuple(sorted(imports))), texts, program)

    async def program_of(self, wanted: Wanted, of: StackName) -> Program:
        """
        Return the program that was prepared earlier.

        Raises:
            ServiceError: ValidationError if what it needs has gone meanwhile.
        """
        text = self._control.state.view.templates[wanted.processed].body
        document = await asyncio.to_thread(read_template, text)
        program, _ = await self._compile(document, wanted, of, set())
        return program

    async def _compile(
        self, document: dict[str, Any], wanted: Wanted, of: StackName, used: set[str]
    ) -> tuple[Program, set[str]]:
        """
        Return the program of a template, and what it imports; one of a megabyte takes most of a second.

        Args:
            document: The template, after its transforms.
            wanted: Has the values of its parameters.
            of: The stack.
            used: Takes the names of the parameters of Systems Manager that it uses.
        """
        place = self._control.place
        pseudo = {
            "AWS::AccountId": place.account,
            "AWS::NotificationARNs": list(wanted.notification_arns),
            "AWS::Partition": PARTITION,
            "AWS::Region": place.region,
            "AWS::StackId": of.stack_id,
            "AWS::StackName": of.name,
            "AWS::URLSuffix": "amazonaws.com",
        }
        parameters = {
            name: Parameter(each.value, each.resolved, each.is_secret)
            for name, each in wanted.parameters.items()
        }
        exports = {
            output.export_name: output.value
            for stack in self._control.state.view.stacks.values()
            if not stack.is_deleted and stack.name != of.name
            for output in stack.wanted.outputs
            if output.export_name
        }

        imports: set[str] = set()

        def imported(name: str) -> str | None:
            imports.add(name)
            return exports.get(name)

        program = await asyncio.to_thread(
            compile_program,
            document,
            parameters,
            pseudo,
            imports=imported,
            ssm=self._ssm(used),
            known_types=self._types.keys(),
        )
        return program, imports

    def _ssm(self, used: set[str]) -> Any:
        """Return what looks a parameter of Systems Manager up, and notes in `used` that it did."""

        def find(name: str) -> str | None:
            bare, _, version = name.partition(":")
            parameter = self._control.state.view.parameters.get(bare)
            if parameter is None or parameter.type == "SecureString":
                return None
            if version and int(version) != parameter.version:
                return None  # only the present one is kept
            used.add(parameter.name)
            return parameter.value

        return find

    async def _check_readable(self, names: Iterable[str], caller: Caller | None) -> None:
        """
        Check that the caller may read the parameters of Systems Manager that a template uses.

        Raises:
            ServiceError: AccessDenied.
        """
        for name in sorted(names):
            try:
                await self._calls.call(caller, "ssm", "GetParameter", {"Name": name})
            except CallFailed as error:
                raise ServiceError(error.code, error.message, error.status) from error

    async def _fetch(self, url: str, caller: Caller | None) -> str:
        """Read a template from a bucket of the node."""
        bucket, key = self._take_apart(url)
        try:
            await self._calls.call(caller, "s3", "HeadObject", {"Bucket": bucket, "Key": key})
        except CallFailed as error:
            text = f"S3 error: {error.message or error.code}"
            raise invalid(text) from error
        stored = self._control.state.view.objects[bucket][key]
        if stored.size_bytes > limits.TEMPLATE_BYTES_MAX:
            raise _too_long("templateURL", limits.TEMPLATE_BYTES_MAX)
        path = await self._control.artifacts.sound(stored.digest)
        try:
            return (await asyncio.to_thread(path.read_bytes)).decode()
        except UnicodeDecodeError as error:
            raise invalid("Template format error: the template is not text in UTF-8.") from error

    def _take_apart(self, url: str) -> tuple[str, str]:
        """Return bucket and key of an address: of S3 in either style, or of this node."""
        parts = urlsplit(url)
        host, path = parts.hostname or "", unquote(parts.path).removeprefix("/")
        if parts.scheme not in ("http", "https") or not host or not path:
            raise invalid("TemplateURL must be a supported URL.")
        bucket, _, rest = host.partition(".")
        if _S3_HOST.fullmatch(rest):
            return bucket, path
        if rest in ("localhost", "s3.localhost"):
            return bucket, path
        bucket, _, key = path.partition("/")
        if not key:
            raise invalid("TemplateURL must reference a valid S3 object to which you have access.")
        return bucket, key


def _too_long(member: str, limit: int) -> ServiceError:
    return invalid(
        f"1 validation error detected: Value at '{member}' failed to satisfy constraint: "
        f"Member must have length less than or equal to {limit}"
    )


def digest_of(text: str) -> str:
    """Return the digest that a template is kept under."""
    return hashlib.sha256(text.encode()).hexdigest()


def needed_capabilities(document: Mapping[str, Any]) -> tuple[str, list[str]]:
    """
    Return what has to be acknowledged before a template may give permissions.

    Returns:
        `CAPABILITY_IAM`, `CAPABILITY_NAMED_IAM` or nothing; the types of resources that make it so.
    """
    found: dict[str, bool] = {}
    resources = document.get("Resources")
    for resource in resources.values() if isinstance(resources, dict) else ():
        kind = resource.get("Type") if isinstance(resource, dict) else None
        if isinstance(kind, str) and kind in _IAM_NAMES:
            properties = resource.get("Properties")
            has_name = (
                isinstance(properties, dict) and bool(_IAM_NAMES[kind]) and _IAM_NAMES[kind] in properties
            )
            found[kind] = found.get(kind, False) or has_name
    if not found:
        return "", []
    return "CAPABILITY_NAMED_IAM" if any(found.values()) else "CAPABILITY_IAM", sorted(found)


def check_capabilities(document: Mapping[str, Any], given: Iterable[str]) -> None:
    """
    Check that what a template may do was acknowledged.

    Raises:
        ServiceError: InsufficientCapabilitiesException.
    """
    needed, _ = needed_capabilities(document)
    enough = (
        {"CAPABILITY_NAMED_IAM"} if needed == "CAPABILITY_NAMED_IAM" else {needed, "CAPABILITY_NAMED_IAM"}
    )
    if needed and not enough & set(given):
        text = f"Requires capabilities : [{needed}]"
        raise ServiceError("InsufficientCapabilitiesException", text)


def _given(request: Mapping[str, Any], before: Wanted | None) -> dict[str, str | None]:
    """Return the values that a request gives parameters."""
    found: dict[str, str | None] = {}
    for each in request.get("Parameters", ()):
        name = each.get("ParameterKey", "")
        if each.get("UsePreviousValue"):
            if before is None or name not in before.parameters:
                raise invalid(
                    f"Invalid input for parameter key {name}. Cannot specify usePreviousValue as true "
                    "for a parameter key not in the previous template"
                )
            found[name] = before.parameters[name].value
        else:
            found[name] = each.get("ParameterValue", "")
    return found


def _tags(given: Iterable[Mapping[str, str]]) -> dict[str, str]:
    tags = {each["Key"]: each["Value"] for each in given}
    if reserved := [name for name in tags if name.startswith("aws:")]:
        raise invalid(f"aws: prefixed tag key names are not allowed for external use: {', '.join(reserved)}")
    return tags
