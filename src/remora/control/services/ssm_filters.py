"""
Which parameters of Systems Manager a request is about: paths and filters.

Source: AWS Systems Manager API Reference, ParameterStringFilter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from remora.control.services.neighbour import ServiceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from remora.resources.neighbours import Parameter

_OPTIONS: Final[dict[str, Callable[[str, str], bool]]] = {
    "Equals": str.__eq__,
    "BeginsWith": str.startswith,
    "Contains": str.__contains__,
}


def is_below(name: str, path: str, *, deep: bool) -> bool:
    """Tell if a parameter is below a path: in it, or if `deep` in one further down."""
    below = f"{path.rstrip('/')}/"
    return name.startswith(below) and (deep or "/" not in name[len(below) :])


def matches(parameter: Parameter, filters: Iterable[Mapping[str, Any]]) -> bool:
    """
    Tell if a parameter meets every filter.

    Raises:
        ServiceError: InvalidFilterKey, InvalidFilterOption for one that is not offered.
    """
    return all(_meets(parameter, each) for each in filters)


def _meets(parameter: Parameter, wanted: Mapping[str, Any]) -> bool:
    key, values = wanted["Key"], wanted.get("Values", [])
    if key == "Path":
        option = wanted.get("Option", "OneLevel")
        if option not in ("OneLevel", "Recursive"):
            raise _no_option(key, option)
        return any(is_below(parameter.name, path, deep=option == "Recursive") for path in values)
    option = wanted.get("Option", "Equals")
    compare = _OPTIONS.get(option)
    if compare is None:
        raise _no_option(key, option)
    if key.startswith("tag:"):
        value = parameter.tags.get(key.removeprefix("tag:"))
        return value is not None and (not values or any(compare(value, each) for each in values))
    given = {
        "Name": parameter.name,
        "Type": parameter.type,
        "DataType": parameter.data_type,
        "Tier": "Standard",
        "KeyId": "alias/aws/ssm" if parameter.type == "SecureString" else "",
    }
    if key not in given:
        raise ServiceError("InvalidFilterKey", f"The following filter key is not valid: {key}.")
    return any(compare(given[key], each) for each in values)


def _no_option(key: str, option: str) -> ServiceError:
    return ServiceError(
        "InvalidFilterOption", f"The following filter option is not valid: {option}, for {key}."
    )
