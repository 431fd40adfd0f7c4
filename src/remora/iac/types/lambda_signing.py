"""
AWS::Lambda::CodeSigningConfig: whose code functions may have.

Source: AWS CloudFormation Template Reference, "AWS::Lambda::CodeSigningConfig"; Lambda API Reference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from remora.iac.types.base import Made, ResourceType, chosen, known, lost_tags, remove, tag_map
from remora.iac.types.shapes import OBJECT

if TYPE_CHECKING:
    from remora.iac.types.base import Context, Properties

_SETTINGS: Final = ("AllowedPublishers", "CodeSigningPolicies", "Description")
_WARN: Final = {"UntrustedArtifactOnDeployment": "Warn"}
"""What becomes of code that nobody signed, if the template does not say."""


async def _create(context: Context, properties: Properties) -> Made:
    request = {**chosen(properties, *_SETTINGS), "Tags": tag_map(context, properties) or None}
    return _made(await context.call("lambda", "CreateCodeSigningConfig", request))


async def _update(context: Context, physical_id: str, former: Properties, properties: Properties) -> Made:
    of = {"Resource": physical_id}
    request = {"Description": "", "CodeSigningPolicies": _WARN, **chosen(properties, *_SETTINGS)}
    reply = await context.call(
        "lambda", "UpdateCodeSigningConfig", {"CodeSigningConfigArn": physical_id, **request}
    )
    if keys := lost_tags(context, former, properties):
        await remove(context, "lambda", "UntagResource", {**of, "TagKeys": keys})
    if tags := tag_map(context, properties):
        await context.call("lambda", "TagResource", {**of, "Tags": tags})
    return _made(reply)


async def _delete(context: Context, physical_id: str, _: Properties) -> None:
    await remove(context, "lambda", "DeleteCodeSigningConfig", {"CodeSigningConfigArn": physical_id})


def _made(reply: dict[str, Any]) -> Made:
    config = reply["CodeSigningConfig"]
    names = ("CodeSigningConfigArn", "CodeSigningConfigId")
    return Made(config["CodeSigningConfigArn"], {name: config[name] for name in names})


CODE_SIGNING_CONFIG: Final = ResourceType(
    properties=known(
        *("CodeSigningPolicies", "Description", "Tags"),
        required=("AllowedPublishers",),
        shapes={"AllowedPublishers": OBJECT, "CodeSigningPolicies": OBJECT},
    ),
    create=_create,
    update=_update,
    delete=_delete,
    attributes=frozenset({"CodeSigningConfigArn", "CodeSigningConfigId"}),
)
"""A configuration, known by its ARN."""
