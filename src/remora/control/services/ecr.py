"""
ECR: repositories without images, which deploy tools make on their way.

What a repository is told is kept and shown; there is no registry behind it to push to or to pull from.

Source: Amazon Elastic Container Registry API Reference; shapes from botocore's model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from remora.auth.documents import DocumentError, check_resource_policy
from remora.control.services.neighbour import Neighbour, ServiceError
from remora.control.services.pages import one_page
from remora.resources.neighbours import Repository
from remora.resources.view import Change, View
from remora.spec import rpc_api

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from remora.control.context import Control
    from remora.control.services.neighbour import Handler

SERVICE: Final = "ecr"

Request = dict[str, Any]
Reply = dict[str, Any]

_TAGS_MAX: Final = 50
_PAGE: Final = 100


class Ecr:
    """
    Performs the operations.

    Args:
        control: The node's parts.
    """

    def __init__(self, control: Control) -> None:
        self._control = control

    def __repr__(self) -> str:
        return f"<Ecr repositories={len(self._control.state.view.repositories)}>"

    def handlers(self) -> Mapping[str, Handler]:
        """Return what performs each operation, by its name in the model."""
        return {
            "CreateRepository": self.create_repository,
            "DeleteLifecyclePolicy": self.delete_lifecycle_policy,
            "DeleteRepository": self.delete_repository,
            "DeleteRepositoryPolicy": self.delete_repository_policy,
            "DescribeImages": self.describe_images,
            "DescribeRepositories": self.describe_repositories,
            "GetLifecyclePolicy": self.get_lifecycle_policy,
            "GetRepositoryPolicy": self.get_repository_policy,
            "ListImages": self.list_images,
            "ListTagsForResource": self.list_tags_for_resource,
            "PutImageScanningConfiguration": self.put_image_scanning_configuration,
            "PutImageTagMutability": self.put_image_tag_mutability,
            "PutLifecyclePolicy": self.put_lifecycle_policy,
            "SetRepositoryPolicy": self.set_repository_policy,
            "TagResource": self.tag_resource,
            "UntagResource": self.untag_resource,
        }

    # --- repositories -------------------------------------------------------------------------------------

    async def create_repository(self, request: Request) -> Reply:
        """Make a repository."""
        self._check_registry(request)
        repository = Repository(
            name=request["repositoryName"],
            created_ms=self._control.clock.wall_ms(),
            mutability=request.get("imageTagMutability", "MUTABLE"),
            exclusions=request.get("imageTagMutabilityExclusionFilters", []),
            scans_on_push=request.get("imageScanningConfiguration", {}).get("scanOnPush", False),
            encryption=request.get("encryptionConfiguration", {}),
            tags=_tags({}, request.get("tags", ())),
        )

        def decide(view: View) -> tuple[None, list[Change]]:
            if repository.name in view.repositories:
                text = (
                    f"The repository with name '{repository.name}' already exists in the registry with id "
                    f"'{self._control.place.account}'"
                )
                raise ServiceError("RepositoryAlreadyExistsException", text)
            return None, [Change("repository", repository.name, repository)]

        await self._control.state.change(decide)
        return {"repository": self._describe(repository)}

    async def describe_repositories(self, request: Request) -> Reply:
        """Describe the repositories that are named, or all of them, one page."""
        self._check_registry(request)
        view = self._control.state.view
        if "repositoryNames" in request:
            found = [self._find(view, name) for name in request["repositoryNames"]]
            return {"repositories": [self._describe(each) for each in found]}
        asked = {name: request[name] for name in ("nextToken",) if name in request}
        asked["limit"] = request.get("maxResults", _PAGE)
        known = [view.repositories[name] for name in sorted(view.repositories)]
        page, token = one_page(known, asked, default=_PAGE, name=lambda each: each.name)
        return {"repositories": [self._describe(each) for each in page], "nextToken": token}

    async def delete_repository(self, request: Request) -> Reply:
        """Delete a repository; it never has images."""
        self._check_registry(request)

        def decide(view: View) -> tuple[Repository, list[Change]]:
            found = self._find(view, request["repositoryName"])
            return found, [Change("repository", found.name, None)]

        return {"repository": self._describe(await self._control.state.change(decide))}

    async def describe_images(self, request: Request) -> Reply:
        """Describe no images."""
        found = self._named(request)
        if request.get("imageIds"):
            text = f"The image requested does not exist within the repository with name '{found.name}'"
            raise ServiceError("ImageNotFoundException", text)
        return {"imageDetails": []}

    async def list_images(self, request: Request) -> Reply:
        """List no images."""
        self._named(request)
        return {"imageIds": []}

    # --- what a repository is told --------------------------------------------------------------------------

    async def put_image_scanning_configuration(self, request: Request) -> Reply:
        """Say if images are to be scanned."""
        scans = request["imageScanningConfiguration"].get("scanOnPush", False)
        await self._change(request, scans_on_push=scans)
        return self._about(request, imageScanningConfiguration={"scanOnPush": scans})

    async def put_image_tag_mutability(self, request: Request) -> Reply:
        """Say if tags of images may be moved."""
        mutability = request["imageTagMutability"]
        exclusions = request.get("imageTagMutabilityExclusionFilters", [])
        await self._change(request, mutability=mutability, exclusions=exclusions)
        return self._about(
            request,
            imageTagMutability=mutability,
            imageTagMutabilityExclusionFilters=exclusions or None,
        )

    async def put_lifecycle_policy(self, request: Request) -> Reply:
        """Keep a lifecycle policy."""
        text = request["lifecyclePolicyText"]
        try:
            rules = msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError) as error:
            raise _invalid("lifecyclePolicyText", f"it is no JSON: {error}") from error
        if not isinstance(rules, dict) or not isinstance(rules.get("rules"), list):
            raise _invalid("lifecyclePolicyText", "it has no list of rules")
        await self._change(request, lifecycle_policy=text)
        return self._about(request, lifecyclePolicyText=text)

    async def get_lifecycle_policy(self, request: Request) -> Reply:
        """Show the lifecycle policy."""
        return self._about(request, lifecyclePolicyText=self._lifecycle_policy(self._named(request)))

    async def delete_lifecycle_policy(self, request: Request) -> Reply:
        """Forget the lifecycle policy."""
        text = self._lifecycle_policy(self._named(request))
        await self._change(request, lifecycle_policy="")
        return self._about(request, lifecyclePolicyText=text)

    async def set_repository_policy(self, request: Request) -> Reply:
        """Keep a policy."""
        text = request["policyText"]
        try:
            check_resource_policy(text, names_resources=False)
        except DocumentError as error:
            raise _invalid("PolicyText", str(error)) from error
        await self._change(request, policy=text)
        return self._about(request, policyText=text)

    async def get_repository_policy(self, request: Request) -> Reply:
        """Show the policy."""
        return self._about(request, policyText=self._policy(self._named(request)))

    async def delete_repository_policy(self, request: Request) -> Reply:
        """Forget the policy."""
        text = self._policy(self._named(request))
        await self._change(request, policy="")
        return self._about(request, policyText=text)

    # --- tags -----------------------------------------------------------------------------------------------

    async def tag_resource(self, request: Request) -> Reply:
        """Give a repository tags."""
        await self._retag(request, lambda tags: _tags(tags, request["tags"]))
        return {}

    async def untag_resource(self, request: Request) -> Reply:
        """Take tags from a repository."""
        gone = set(request["tagKeys"])
        await self._retag(request, lambda tags: {key: tags[key] for key in tags if key not in gone})
        return {}

    async def list_tags_for_resource(self, request: Request) -> Reply:
        """List a repository's tags."""
        found = self._find(self._control.state.view, self._name_in(request["resourceArn"]))
        return {"tags": [{"Key": key, "Value": value} for key, value in found.tags.items()]}

    async def _retag(self, request: Request, change: Callable[[dict[str, str]], dict[str, str]]) -> None:
        name = self._name_in(request["resourceArn"])

        def decide(view: View) -> tuple[None, list[Change]]:
            found = self._find(view, name)
            tagged = msgspec.structs.replace(found, tags=change(found.tags))
            return None, [Change("repository", name, tagged)]

        await self._control.state.change(decide)

    # --- parts ----------------------------------------------------------------------------------------------

    def _named(self, request: Request) -> Repository:
        self._check_registry(request)
        return self._find(self._control.state.view, request["repositoryName"])

    def _find(self, view: View, name: str) -> Repository:
        found = view.repositories.get(name)
        if found is None:
            text = (
                f"The repository with name '{name}' does not exist in the registry with id "
                f"'{self._control.place.account}'"
            )
            raise ServiceError("RepositoryNotFoundException", text)
        return found

    def _check_registry(self, request: Request) -> None:
        """Refuse the registries of other accounts."""
        account = self._control.place.account
        if request.get("registryId", account) != account:
            text = f"This node has the registry with id '{account}', not '{request['registryId']}'"
            raise ServiceError("RepositoryNotFoundException", text)

    def _name_in(self, arn: str) -> str:
        start = self._control.place.repository_arn("")
        if not arn.startswith(start):
            raise _invalid("resourceArn", f"it must begin with {start}")
        return arn.removeprefix(start)

    async def _change(self, request: Request, **members: Any) -> None:
        self._check_registry(request)

        def decide(view: View) -> tuple[None, list[Change]]:
            changed = msgspec.structs.replace(self._find(view, request["repositoryName"]), **members)
            return None, [Change("repository", changed.name, changed)]

        await self._control.state.change(decide)

    def _lifecycle_policy(self, repository: Repository) -> str:
        if not repository.lifecycle_policy:
            raise ServiceError("LifecyclePolicyNotFoundException", self._without(repository, "Lifecycle"))
        return repository.lifecycle_policy

    def _policy(self, repository: Repository) -> str:
        if not repository.policy:
            raise ServiceError("RepositoryPolicyNotFoundException", self._without(repository, "Repository"))
        return repository.policy

    def _without(self, repository: Repository, kind: str) -> str:
        return (
            f"{kind} policy does not exist for the repository with name '{repository.name}' in the registry "
            f"with id '{self._control.place.account}'"
        )

    def _about(self, request: Request, **members: Any) -> Reply:
        return {
            "registryId": self._control.place.account,
            "repositoryName": request["repositoryName"],
            **members,
        }

    def _describe(self, repository: Repository) -> Reply:
        place = self._control.place
        return {
            "repositoryArn": place.repository_arn(repository.name),
            "registryId": place.account,
            "repositoryName": repository.name,
            "repositoryUri": f"{place.account}.dkr.ecr.{place.region}.amazonaws.com/{repository.name}",
            "createdAt": repository.created_ms / 1000,
            "imageTagMutability": repository.mutability,
            "imageTagMutabilityExclusionFilters": repository.exclusions or None,
            "imageScanningConfiguration": {"scanOnPush": repository.scans_on_push},
            "encryptionConfiguration": repository.encryption or {"encryptionType": "AES256"},
        }


def service(control: Control) -> Neighbour:
    """Return the service."""
    handlers = Ecr(control).handlers()
    api = rpc_api.load("ecr", "2015-09-21", handlers.keys())
    return Neighbour(SERVICE, api, handlers, control.new_id, invalid="InvalidParameterException")


def _tags(former: Mapping[str, str], given: Any) -> dict[str, str]:
    merged = {**former, **{tag["Key"]: tag["Value"] for tag in given}}
    if len(merged) > _TAGS_MAX:
        raise ServiceError("TooManyTagsException", f"A repository has at most {_TAGS_MAX} tags.")
    return merged


def _invalid(parameter: str, reason: str) -> ServiceError:
    text = f"Invalid parameter at '{parameter}' failed to satisfy constraint: '{reason}'"
    return ServiceError("InvalidParameterException", text)
