"""Names and ARNs, of functions and layers above all: taken apart, put together, resolved against a node."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from remora.spec.errors import ApiError, invalid, not_found

LATEST: Final = "$LATEST"
PARTITION: Final = "aws"

_FUNCTION: Final = re.compile(
    r"(?:arn:aws[a-zA-Z-]*:lambda:)?"
    r"(?:(?P<region>(?:eusc-)?[a-z]{2}(?:-gov|-iso[a-z]?)?-[a-z]+-\d):)?"
    r"(?:(?P<account>\d{12}):)?"
    r"(?:function:)?"
    r"(?P<name>[a-zA-Z0-9-_.]+)"
    r"(?::(?P<qualifier>\$LATEST(?:\.PUBLISHED)?|[a-zA-Z0-9-_]+))?",
    re.ASCII,
)
_LAYER: Final = re.compile(
    r"arn:aws[a-zA-Z-]*:lambda:(?P<region>[^:]+):(?P<account>\d{12}):layer:"
    r"(?P<name>[a-zA-Z0-9-_]+)(?::(?P<version>\d{1,19}))?",
    re.ASCII,
)


class Place(NamedTuple):
    """Where this node claims to be: region `us-east-1`, account of twelve digits."""

    region: str
    account: str

    def function_arn(self, name: str, qualifier: str | None = None) -> str:
        """Return the ARN of a function, qualified if a qualifier is given."""
        arn = f"arn:{PARTITION}:lambda:{self.region}:{self.account}:function:{name}"
        return arn if qualifier is None else f"{arn}:{qualifier}"

    def layer_arn(self, name: str, version: int | None = None) -> str:
        """Return the ARN of a layer, or of one of its versions."""
        arn = f"arn:{PARTITION}:lambda:{self.region}:{self.account}:layer:{name}"
        return arn if version is None else f"{arn}:{version}"

    @property
    def root_arn(self) -> str:
        """The ARN of the account itself."""
        return f"arn:{PARTITION}:iam::{self.account}:root"

    def role_arn(self, name: str, path: str = "/") -> str:
        """Return the ARN of a role."""
        return f"arn:{PARTITION}:iam::{self.account}:role{path}{name}"

    def user_arn(self, name: str) -> str:
        """Return the ARN of a user."""
        return f"arn:{PARTITION}:iam::{self.account}:user/{name}"

    def policy_arn(self, name: str, path: str = "/") -> str:
        """Return the ARN of a policy that the account itself manages."""
        return f"arn:{PARTITION}:iam::{self.account}:policy{path}{name}"

    def parameter_arn(self, name: str) -> str:
        """Return the ARN of a parameter of that name or ARN, with or without a version or a slash ahead."""
        bare, _ = parameter_name(name)
        return f"arn:{PARTITION}:ssm:{self.region}:{self.account}:parameter/{bare.removeprefix('/')}"

    def repository_arn(self, name: str) -> str:
        """Return the ARN of a repository of images."""
        return f"arn:{PARTITION}:ecr:{self.region}:{self.account}:repository/{name}"


class Target(NamedTuple):
    """What a request is about: a function's bare name, and the qualifier if the caller gave one."""

    name: str
    qualifier: str | None

    @property
    def version(self) -> str:
        """The qualifier, `$LATEST` if there was none."""
        return self.qualifier or LATEST


class LayerTarget(NamedTuple):
    """A layer from a name or an ARN: bare name; version number, region and account if there were any."""

    name: str
    version: int | None
    region: str | None
    account: str | None


def resolve_function(place: Place, text: str, qualifier: str | None = None) -> Target:
    """
    Take a FunctionName apart and check that it is of this node.

    Args:
        place: Region and account of this node.
        text: Name, partial ARN or ARN, with or without a qualifier; matches the model's pattern.
        qualifier: The separate parameter of that name.

    Raises:
        ApiError: Not found if the ARN is of another region, access denied if of another account, invalid if
            the two qualifiers differ.
    """
    match = _FUNCTION.fullmatch(text)
    if match is None:
        raise invalid(f"'{text}' is not the name or the ARN of a function.")
    region, account = match["region"], match["account"]
    if region is not None and region != place.region:
        raise not_found(f"Functions from '{region}' are not reachable in this region ('{place.region}')")
    if account is not None and account != place.account:
        raise ApiError("AccessDeniedException", None)
    derived = match["qualifier"]
    if derived is not None and qualifier is not None and derived != qualifier:
        raise invalid("The derived qualifier from the function name does not match the specified qualifier.")
    return Target(match["name"], derived or qualifier)


def parameter_name(text: str) -> tuple[str, str]:
    """Return the name, and the version or an empty text for the present one, in a parameter's name or ARN."""
    name = text.partition(":parameter")[2] if text.startswith("arn:") else text
    bare, _, version = name.partition(":")
    return bare, version


def parse_layer(text: str) -> LayerTarget:
    """Take a layer's name, ARN or version ARN apart; what is no ARN is a bare name."""
    match = _LAYER.fullmatch(text)
    if match is None:
        return LayerTarget(text, None, None, None)
    version = match["version"]
    return LayerTarget(match["name"], int(version) if version else None, match["region"], match["account"])
