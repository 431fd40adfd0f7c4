"""Which operations are offered, and who answers them; all others of the model are answered as not offered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from remora.control.operations import (
    asynchronous,
    concurrency,
    events,
    functions,
    layers,
    management,
    policies,
    signing,
    urls,
    versions,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from remora.control.context import Control
    from remora.control.operations.call import Call

Handler = Callable[["Control", "Call"], Awaitable[dict[str, Any] | None]]

INVOKE: Final = "Invoke"
INVOKE_WITH_RESPONSE_STREAM: Final = "InvokeWithResponseStream"

HANDLERS: Final[Mapping[str, Handler]] = {
    "InvokeAsync": asynchronous.invoke_async,
    "DeleteFunctionConcurrency": concurrency.delete_function_concurrency,
    "DeleteProvisionedConcurrencyConfig": concurrency.delete_provisioned_concurrency_config,
    "GetFunctionConcurrency": concurrency.get_function_concurrency,
    "GetProvisionedConcurrencyConfig": concurrency.get_provisioned_concurrency_config,
    "ListProvisionedConcurrencyConfigs": concurrency.list_provisioned_concurrency_configs,
    "PutFunctionConcurrency": concurrency.put_function_concurrency,
    "PutProvisionedConcurrencyConfig": concurrency.put_provisioned_concurrency_config,
    "DeleteFunctionEventInvokeConfig": events.delete_function_event_invoke_config,
    "GetFunctionEventInvokeConfig": events.get_function_event_invoke_config,
    "ListFunctionEventInvokeConfigs": events.list_function_event_invoke_configs,
    "PutFunctionEventInvokeConfig": events.put_function_event_invoke_config,
    "UpdateFunctionEventInvokeConfig": events.update_function_event_invoke_config,
    "CreateFunction": functions.create_function,
    "DeleteFunction": functions.delete_function,
    "GetAccountSettings": functions.get_account_settings,
    "GetFunction": functions.get_function,
    "GetFunctionConfiguration": functions.get_function_configuration,
    "ListFunctions": functions.list_functions,
    "UpdateFunctionCode": functions.update_function_code,
    "UpdateFunctionConfiguration": functions.update_function_configuration,
    "DeleteLayerVersion": layers.delete_layer_version,
    "GetLayerVersion": layers.get_layer_version,
    "GetLayerVersionByArn": layers.get_layer_version_by_arn,
    "ListLayers": layers.list_layers,
    "ListLayerVersions": layers.list_layer_versions,
    "PublishLayerVersion": layers.publish_layer_version,
    "GetFunctionRecursionConfig": management.get_function_recursion_config,
    "GetRuntimeManagementConfig": management.get_runtime_management_config,
    "ListEventSourceMappings": management.list_event_source_mappings,
    "ListTags": management.list_tags,
    "PutFunctionRecursionConfig": management.put_function_recursion_config,
    "PutRuntimeManagementConfig": management.put_runtime_management_config,
    "TagResource": management.tag_resource,
    "UntagResource": management.untag_resource,
    "AddLayerVersionPermission": policies.add_layer_version_permission,
    "AddPermission": policies.add_permission,
    "DeleteResourcePolicy": policies.delete_resource_policy,
    "GetLayerVersionPolicy": policies.get_layer_version_policy,
    "GetPolicy": policies.get_policy,
    "GetResourcePolicy": policies.get_resource_policy,
    "PutResourcePolicy": policies.put_resource_policy,
    "RemoveLayerVersionPermission": policies.remove_layer_version_permission,
    "RemovePermission": policies.remove_permission,
    "CreateCodeSigningConfig": signing.create_code_signing_config,
    "DeleteCodeSigningConfig": signing.delete_code_signing_config,
    "DeleteFunctionCodeSigningConfig": signing.delete_function_code_signing_config,
    "GetCodeSigningConfig": signing.get_code_signing_config,
    "GetFunctionCodeSigningConfig": signing.get_function_code_signing_config,
    "ListCodeSigningConfigs": signing.list_code_signing_configs,
    "ListFunctionsByCodeSigningConfig": signing.list_functions_by_code_signing_config,
    "PutFunctionCodeSigningConfig": signing.put_function_code_signing_config,
    "UpdateCodeSigningConfig": signing.update_code_signing_config,
    "CreateFunctionUrlConfig": urls.create_function_url_config,
    "DeleteFunctionUrlConfig": urls.delete_function_url_config,
    "GetFunctionUrlConfig": urls.get_function_url_config,
    "ListFunctionUrlConfigs": urls.list_function_url_configs,
    "UpdateFunctionUrlConfig": urls.update_function_url_config,
    "CreateAlias": versions.create_alias,
    "DeleteAlias": versions.delete_alias,
    "GetAlias": versions.get_alias,
    "ListAliases": versions.list_aliases,
    "ListVersionsByFunction": versions.list_versions_by_function,
    "PublishVersion": versions.publish_version,
    "UpdateAlias": versions.update_alias,
}
"""By the operation's name in the model; the two that invoke are answered by `invoke.Invocations`."""
