"""Which operations are offered, and who answers them; all others of the model are answered as not offered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from remora.control.operations import functions, layers, versions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from remora.control.context import Control
    from remora.control.operations.call import Call

Handler = Callable[["Control", "Call"], Awaitable[dict[str, Any] | None]]

INVOKE: Final = "Invoke"
INVOKE_WITH_RESPONSE_STREAM: Final = "InvokeWithResponseStream"

HANDLERS: Final[Mapping[str, Handler]] = {
    "CreateAlias": versions.create_alias,
    "CreateFunction": functions.create_function,
    "DeleteAlias": versions.delete_alias,
    "DeleteFunction": functions.delete_function,
    "GetAlias": versions.get_alias,
    "GetAccountSettings": functions.get_account_settings,
    "GetFunction": functions.get_function,
    "GetFunctionConfiguration": functions.get_function_configuration,
    "ListAliases": versions.list_aliases,
    "ListFunctions": functions.list_functions,
    "ListTags": functions.list_tags,
    "ListVersionsByFunction": versions.list_versions_by_function,
    "PublishVersion": versions.publish_version,
    "UpdateAlias": versions.update_alias,
    "UpdateFunctionCode": functions.update_function_code,
    "UpdateFunctionConfiguration": functions.update_function_configuration,
    "DeleteLayerVersion": layers.delete_layer_version,
    "GetLayerVersion": layers.get_layer_version,
    "GetLayerVersionByArn": layers.get_layer_version_by_arn,
    "ListLayers": layers.list_layers,
    "ListLayerVersions": layers.list_layer_versions,
    "PublishLayerVersion": layers.publish_layer_version,
}
"""By the operation's name in the model; the two that invoke are answered by `invoke.Invocations`."""
