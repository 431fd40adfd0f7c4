"""
Types that nothing is made for, and types that are only known so that a template may leave them out.

`AWS::CDK::Metadata` and `AWS::CloudFormation::WaitConditionHandle` have an identifier and nothing else.
Keys of KMS stand in the template that CDK's bootstrap deploys, under a condition that does not hold unless
somebody asks for one: then they are refused.

Source: AWS CloudFormation Template Reference; aws-cdk, `lib/api/bootstrap/bootstrap-template.yaml`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from remora.iac.calls import CallFailed
from remora.iac.types.base import Made, ResourceType, known

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from remora.iac.types.base import Context, Properties, Property


async def _make_nothing(context: Context, properties: Properties) -> Made:
    return Made(_token(context, properties), {})


async def _keep(_: Context, physical_id: str, __: Properties, ___: Properties) -> Made:
    return Made(physical_id, {})


async def _forget(_: Context, __: str, ___: Properties) -> None:
    return


def _token(context: Context, _: Properties) -> str:
    return context.token


METADATA: Final = ResourceType(
    properties=known("Analytics"),
    create=_make_nothing,
    update=_keep,
    delete=_forget,
    predicted_id=_token,
)
"""What CDK notes about a stack."""


async def _make_handle(context: Context, _: Properties) -> Made:
    return Made(_handle(context, {}), {})


def _handle(context: Context, _: Properties) -> str:
    host = f"cloudformation-waitcondition-{context.place.region}.s3.{context.place.region}.amazonaws.com"
    return f"https://{host}/{context.stack_id}/{context.logical_id}?token={context.token}"


WAIT_CONDITION_HANDLE: Final = ResourceType(
    properties=known(),
    create=_make_handle,
    update=_keep,
    delete=_forget,
    predicted_id=_handle,
)
"""An address that nobody listens at: a handle without a condition makes a stack without resources valid."""


def _not_offered(properties: Mapping[str, Property], attributes: frozenset[str], why: str) -> ResourceType:
    return ResourceType(
        properties=properties, create=_refuse(why), update=_keep, delete=_forget, attributes=attributes
    )


def _refuse(why: str) -> Callable[[Context, Properties], Awaitable[Made]]:
    async def create(_: Context, __: Properties) -> Made:
        raise CallFailed("", "", "InvalidRequest", why)

    return create


_NO_KEYS: Final = (
    "This node has no KMS: what is at rest is kept by the machine's own disk encryption, if any."
)

KMS_KEY: Final = _not_offered(
    known(
        *("BypassPolicyLockoutSafetyCheck", "Description", "EnableKeyRotation", "Enabled", "KeyPolicy"),
        *(
            "KeySpec",
            "KeyUsage",
            "MultiRegion",
            "Origin",
            "PendingWindowInDays",
            "RotationPeriodInDays",
            "Tags",
        ),
    ),
    frozenset({"Arn", "KeyId"}),
    _NO_KEYS,
)
"""A key, which there cannot be here."""

KMS_ALIAS: Final = _not_offered(
    known(required=("AliasName", "TargetKeyId"), replacing=("AliasName",)), frozenset(), _NO_KEYS
)
"""Another name of one."""
