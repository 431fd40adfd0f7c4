"""
The transform AWS::LanguageExtensions: its loops are written out, and names that functions give are evaluated.

What else it brings, `Fn::Length`, `Fn::ToJsonString` and the default value of `Fn::FindInMap`, are functions
like all others, and are evaluated with them: they may depend on resources, loops may not.

Source: CloudFormation Template Reference, "AWS::LanguageExtensions transform" and "Fn::ForEach".
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from remora.iac.templates.conditions import known
from remora.iac.templates.functions import evaluate
from remora.iac.templates.parameters import items_of, read_declarations
from remora.iac.templates.reading import LANGUAGE, invalid
from remora.iac.templates.scope import Scope, text_of
from remora.spec import limits

if TYPE_CHECKING:
    from collections.abc import Mapping

LOOP: Final = "Fn::ForEach::"

_NAME: Final = re.compile(r"[A-Za-z0-9]+")
_NO_WORD: Final = re.compile(r"[^A-Za-z0-9]")
_SECTIONS: Final = ("Conditions", "Resources", "Outputs")
_WHERE: Final = "in the Conditions, Resources or Outputs section, or in the properties of a resource"


def write_out(document: Mapping[str, Any], parameters: Mapping[str, str], region: str) -> dict[str, Any]:
    """
    Write out the loops of a template.

    Args:
        document: The template, which stays as it is.
        parameters: Values by name; where there is none, the default counts.
        region: What `AWS::Region` is.

    Raises:
        ServiceError: ValidationError: a loop is malformed, or the result too large.
    """
    loops = _Loops(_scope(document, parameters, region))
    written = {
        name: loops.write(section, f"/{name}", 0) if name in _SECTIONS else section
        for name, section in document.items()
    }
    for section in _SECTIONS:
        if section in written and not isinstance(written[section], dict):
            raise invalid(f"Template format error: [/{section}] The {section} section must be an object.")
    return written


def _scope(document: Mapping[str, Any], parameters: Mapping[str, str], region: str) -> Scope:
    declarations = read_declarations(document)

    def refer(name: str, attribute: str | None) -> Any:
        if name == "AWS::Region" and attribute is None:
            return region
        declared = declarations.get(name)
        value = None if declared is None else parameters.get(name, declared.default)
        if declared is None or value is None or attribute is not None:
            raise invalid(
                f"{LANGUAGE}: names and collections may refer to parameters only, not to {name[:64]}"
            )
        return items_of(value) if declared.is_list else value

    def refuse_import(name: str) -> Any:
        raise invalid(f"{LANGUAGE}: names and collections may not depend on the export {name[:64]}")

    return Scope(refer, known({}), document.get("Mappings", {}), refuse_import, region)


@dataclass(slots=True)
class _Loops:
    """The loops of one template."""

    scope: Scope
    seen: set[str] = field(default_factory=set)
    left: int = limits.TEMPLATE_NODES_MAX

    def write(self, value: Any, path: str, nested: int) -> Any:
        """Copy a value, with its loops written out."""
        if isinstance(value, list):
            return [self.write(each, path, nested) for each in value]
        if not isinstance(value, dict):
            return value
        written: dict[str, Any] = {}
        for key, member in value.items():
            pairs = (
                self._turns(key, member, path, nested)
                if key.startswith(LOOP)
                else {key: self.write(member, path, nested)}
            )
            for name, each in pairs.items():
                if name in written:
                    raise invalid(
                        f"Template format error: [{path}] {name[:64]} is defined twice by Fn::ForEach."
                    )
                written[name] = each
        return self._named(written)

    def _named(self, value: dict[str, Any]) -> dict[str, Any]:
        """Evaluate what names the resource that `Ref` or `Fn::GetAtt` is about, where a function gives it."""
        if len(value) != 1:
            return value
        ((name, argument),) = value.items()
        if name == "Ref" and isinstance(argument, dict):
            return {name: evaluate(argument, self.scope)}
        if name == "Fn::GetAtt" and isinstance(argument, list):
            return {name: [evaluate(each, self.scope) for each in argument]}
        return value

    def _turns(self, key: str, loop: Any, path: str, nested: int) -> dict[str, Any]:
        identifier, collection, body = _parts(key, loop, path)
        if nested >= limits.TEMPLATE_LOOPS_NESTED_MAX:
            raise invalid(f"{key[:64]}: more than {limits.TEMPLATE_LOOPS_NESTED_MAX} nested loops")
        written: dict[str, Any] = {}
        for item in self._items(key, collection):
            turn = self.write(self._replace(body, identifier, item), path, nested + 1)
            for name, member in turn.items():
                if name in written:
                    raise invalid(f"{key[:64]}: {name[:64]} is defined by more than one turn")
                written[name] = member
        return written

    def _items(self, key: str, collection: Any) -> list[str]:
        items = evaluate(collection, self.scope)
        texts = [text_of(item) for item in items] if isinstance(items, list) else [None]
        if None in texts:
            raise invalid(f"{key[:64]}: the collection must be a list of strings")
        return [text for text in texts if text is not None]

    def _replace(self, value: Any, identifier: str, item: str) -> Any:
        """Copy a value, with the turn's item in the place of the loop's identifier."""
        self.left -= 1 + (len(value) if isinstance(value, str) else 0)
        if self.left < 0:
            raise invalid(
                f"Template may not exceed {limits.TEMPLATE_NODES_MAX} characters after Fn::ForEach."
            )
        if isinstance(value, str):
            return value.replace(f"${{{identifier}}}", item).replace(
                f"&{{{identifier}}}", _NO_WORD.sub("", item)
            )
        if isinstance(value, list):
            return [self._replace(each, identifier, item) for each in value]
        if isinstance(value, dict):
            if value == {"Ref": identifier}:
                return item
            return {
                self._replace(key, identifier, item): self._replace(member, identifier, item)
                for key, member in value.items()
            }
        return value


def _parts(key: str, loop: Any, path: str) -> tuple[str, Any, dict[str, Any]]:
    if not _NAME.fullmatch(key.removeprefix(LOOP)):
        raise invalid(f"[{path}] {key[:64]}: the name of a loop must be alphanumeric")
    if not isinstance(loop, list) or len(loop) != 3:
        raise invalid(
            f"[{path}] {key[:64]} requires three parameters: an identifier, a collection and a fragment"
        )
    identifier, collection, body = loop
    if not isinstance(identifier, str) or not _NAME.fullmatch(identifier):
        raise invalid(f"[{path}] {key[:64]}: the identifier must be an alphanumeric string")
    if not isinstance(body, dict):
        raise invalid(f"[{path}] {key[:64]}: the fragment must be an object")
    return identifier, collection, body
