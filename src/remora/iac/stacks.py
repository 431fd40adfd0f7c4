"""Stacks and change sets found by what callers call them, and what may be done with them in their state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remora.control.services.neighbour import ServiceError
from remora.iac.naming import is_name
from remora.resources.stacks import REVIEW

if TYPE_CHECKING:
    from remora.resources.stacks import ChangeSet, Stack
    from remora.resources.view import View

_UPDATABLE = (
    "CREATE_COMPLETE",
    "IMPORT_COMPLETE",
    "UPDATE_COMPLETE",
    "UPDATE_FAILED",
    "UPDATE_ROLLBACK_COMPLETE",
)


def invalid(text: str) -> ServiceError:
    """Make the error of this service for whatever is wrong with a request."""
    return ServiceError("ValidationError", text)


def check_name(text: str, member: str) -> None:
    """
    Check the name of a new stack or change set.

    Raises:
        ServiceError: ValidationError.
    """
    if not is_name(text):
        raise invalid(
            f"1 validation error detected: Value '{text}' at '{member}' failed to satisfy constraint: "
            "Member must satisfy regular expression pattern: [a-zA-Z][-a-zA-Z0-9]*"
        )


def find(view: View, text: str) -> Stack | None:
    """Return the stack of a name or an identifier; one that was deleted has its identifier only."""
    if text in view.stacks:
        return view.stacks[text]
    return next((each for each in view.stacks.values() if each.name == text and not each.is_deleted), None)


def existing(view: View, text: str) -> Stack:
    """
    Return the stack of a name or an identifier.

    Raises:
        ServiceError: ValidationError if there is none.
    """
    stack = find(view, text)
    if stack is None:
        raise invalid(f"Stack with id {text} does not exist")
    return stack


def check_updatable(stack: Stack) -> None:
    """
    Check that a stack may be changed now.

    Raises:
        ServiceError: ValidationError.
    """
    if stack.is_deleted or stack.status == REVIEW:
        raise invalid(f"Stack [{stack.name}] does not exist")
    if stack.status not in _UPDATABLE:
        raise invalid(f"Stack:{stack.stack_id} is in {stack.status} state and can not be updated.")


def check_executable(change_set: ChangeSet) -> None:
    """
    Check that a change set may be executed, and was not yet.

    Raises:
        ServiceError: InvalidChangeSetStatus.
    """
    if change_set.execution_status != "AVAILABLE":
        text = f"cannot be executed in its current status of [{change_set.status}]"
        raise ServiceError("InvalidChangeSetStatus", f"ChangeSet [{change_set.change_set_id}] {text}")


def find_change_set(view: View, text: str, stack_name: str) -> ChangeSet:
    """
    Return a change set.

    Args:
        view: The records.
        text: Its name or identifier.
        stack_name: Name or identifier of its stack, which a bare name needs.

    Raises:
        ServiceError: ChangeSetNotFound, 404; ValidationError if there is no such stack.
    """
    if text.startswith("arn:"):
        found = view.change_sets.get(text)
    elif not stack_name:
        raise invalid("StackName must be specified if ChangeSetName is not specified as an ARN.")
    else:
        stack = existing(view, stack_name)
        sets = (each for each in view.change_sets.values() if each.stack_id == stack.stack_id)
        found = next((each for each in sets if each.name == text), None)
    if found is None:
        raise ServiceError("ChangeSetNotFound", f"ChangeSet [{text}] does not exist", 404)
    return found
