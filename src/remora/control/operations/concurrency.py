"""Reserved and provisioned concurrency."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from remora.resources import concurrency
from remora.resources.concurrency import Account
from remora.resources.paging import page
from remora.spec.errors import invalid

if TYPE_CHECKING:
    from remora.control.context import Control, Provisioning
    from remora.control.operations.call import Call
    from remora.resources.attachments import ProvisionedConcurrency

Reply = dict[str, Any]


async def put_function_concurrency(control: Control, call: Call) -> Reply:
    """Reserve concurrency for a function."""
    decide = partial(
        concurrency.put_reserved, place=control.place, account=_account(control), request=call.request
    )
    return {"ReservedConcurrentExecutions": await control.state.change(decide)}


async def get_function_concurrency(control: Control, call: Call) -> Reply:
    """Tell what is reserved for a function."""
    reserved = concurrency.get_reserved(control.state.view, control.place, call.request)
    return {"ReservedConcurrentExecutions": reserved}


async def delete_function_concurrency(control: Control, call: Call) -> None:
    """Reserve nothing for a function any more."""
    await control.state.change(
        lambda view: (None, concurrency.delete_reserved(view, control.place, call.request))
    )


async def put_provisioned_concurrency_config(control: Control, call: Call) -> Reply:
    """Say how many environments of a version or alias are to be ready; they are made in the background."""
    provisioning = _provisioning(control)
    decide = partial(
        concurrency.put_provisioned,
        place=control.place,
        account=_account(control),
        request=call.request,
        stamp=control.stamp(),
    )
    config = await control.state.change(decide)
    reply = _describe(provisioning, config)
    return {
        **reply,
        "Status": "IN_PROGRESS",
        "StatusReason": None,
        "AllocatedProvisionedConcurrentExecutions": 0,
        "AvailableProvisionedConcurrentExecutions": 0,
    }


async def get_provisioned_concurrency_config(control: Control, call: Call) -> Reply:
    """Tell what has become of what was provisioned."""
    config = concurrency.get_provisioned(control.state.view, control.place, call.request)
    return _describe(_provisioning(control), config)


async def delete_provisioned_concurrency_config(control: Control, call: Call) -> None:
    """Provision nothing any more."""
    await control.state.change(
        lambda view: (None, concurrency.delete_provisioned(view, control.place, call.request))
    )


async def list_provisioned_concurrency_configs(control: Control, call: Call) -> Reply:
    """List what is provisioned of a function, one page."""
    request, place = call.request, control.place
    known = concurrency.list_provisioned(control.state.view, place, request)
    keys, marker = page(sorted(known), request.get("Marker"), request.get("MaxItems"))
    return {
        "ProvisionedConcurrencyConfigs": [
            {
                "FunctionArn": place.function_arn(known[key].function, key),
                **_describe(_provisioning(control), known[key]),
            }
            for key in keys
        ],
        "NextMarker": marker,
    }


def _account(control: Control) -> Account:
    return Account(control.settings.concurrent_executions)


def _provisioning(control: Control) -> Provisioning:
    if control.provisioning is None:
        raise invalid("Provisioned concurrency is not offered by this node.")
    return control.provisioning


def _describe(provisioning: Provisioning, config: ProvisionedConcurrency) -> Reply:
    status = provisioning.status(config.function, config.qualifier)
    return {
        "RequestedProvisionedConcurrentExecutions": config.requested,
        "AllocatedProvisionedConcurrentExecutions": status.allocated,
        "AvailableProvisionedConcurrentExecutions": status.available,
        "Status": status.status,
        "StatusReason": status.reason,
        "LastModified": config.last_modified,
    }
