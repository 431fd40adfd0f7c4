"""Steps that change every kind of record in every way, for tests of what survives."""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from typing import TYPE_CHECKING, Any

from remora.control.operations.call import Call
from remora.control.operations.offered import HANDLERS
from remora.control.service import LambdaService
from remora.control.services.ecr import Ecr
from remora.control.services.iam import Iam
from remora.control.services.iam_policies import Policies
from remora.control.services.offered import record_services
from remora.control.services.s3 import S3
from remora.control.services.ssm import Ssm
from remora.control.services.sts import Sts
from remora.iac.service import CloudFormation

if TYPE_CHECKING:
    from remora.control.context import Control

Step = "Callable[[], Awaitable[object]]"

ROLE = "arn:aws:iam::000000000000:role/r"
FUNCTION = "arn:aws:lambda:us-east-1:000000000000:function:f"
LAYER = "arn:aws:lambda:us-east-1:000000000000:layer:l:1"
PROFILE = "arn:aws:signer:us-east-1:000000000000:/signing-profiles/p/0123456789"
MANAGED = "arn:aws:iam::000000000000:policy/m"
TRUST = '{"Statement":[{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole"}]}'
OWN = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"lambda:*","Resource":"*"}]}'
POLICY = (
    '{"Version":"2012-10-17","Statement":[{"Sid":"t","Effect":"Allow","Principal":"*",'
    f'"Action":"lambda:InvokeFunction","Resource":"{FUNCTION}"}}]}}'
)
ROOT = "arn:aws:iam::000000000000:root"


def package(text: str) -> bytes:
    """Make a zip with one file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("h.py"), text)
    return buffer.getvalue()


class Request:
    """As much of an exchange as the neighbours need."""

    is_oversized, trailers, is_open, slot = False, (), True, None

    def __init__(
        self, method: bytes, path: bytes, body: bytes = b"", query: bytes = b"", **headers: bytes
    ) -> None:
        self.method, self.path, self.body, self.query = method, path, body, query
        self.headers = [(name.replace("_", "-").encode(), value) for name, value in headers.items()]
        self.answer = (0, b"")

    def header(self, name: bytes) -> bytes | None:
        return dict(self.headers).get(name)

    def respond(self, status: int, headers: object, body: bytes) -> None:
        self.answer = (status, body)


class Objects:
    """What is done to S3."""

    def __init__(self, control: Control) -> None:
        self._s3 = S3(control)
        self._upload = b""

    def send(self, *parts: bytes, **headers: bytes) -> Step:
        """Make a request; the answer must be a good one."""

        async def run() -> object:
            request = Request(*parts, **headers)
            await self._s3.answer(request)
            assert request.answer[0] < 300, request.answer
            return request.answer

        return run

    async def begin(self) -> None:
        """Begin an upload in parts."""
        _, body = await self.send(b"POST", b"/bucket/large", b"", b"uploads")()
        self._upload = re.search(b"<UploadId>(.+)</UploadId>", body)[1]

    async def part(self, number: int, content: bytes) -> None:
        """Add a part."""
        query = b"partNumber=%d&uploadId=%s" % (number, self._upload)
        await self.send(b"PUT", b"/bucket/large", content, query)()

    async def complete(self, *contents: bytes) -> None:
        """Make the object of the parts."""
        parts = b"".join(
            b"<Part><PartNumber>%d</PartNumber><ETag>%s</ETag></Part>"
            % (number, hashlib.md5(content, usedforsecurity=False).hexdigest().encode())
            for number, content in enumerate(contents, 1)
        )
        body = b"<CompleteMultipartUpload>%s</CompleteMultipartUpload>" % parts
        await self.send(b"POST", b"/bucket/large", body, b"uploadId=" + self._upload)()

    async def abort(self) -> None:
        """Give an upload up."""
        await self.send(b"DELETE", b"/bucket/large", b"", b"uploadId=" + self._upload)()


class Signing:
    """What is done to configurations of code signing."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._arn = ""

    async def create(self) -> None:
        """Make one."""
        request = {"AllowedPublishers": {"SigningProfileVersionArns": [PROFILE]}}
        reply = await HANDLERS["CreateCodeSigningConfig"](self._control, Call(request, "http://x", ROOT))
        self._arn = reply["CodeSigningConfig"]["CodeSigningConfigArn"]

    def with_it(self, name: str, **request: Any) -> Step:
        """Do something with it."""
        return lambda: HANDLERS[name](
            self._control, Call({"CodeSigningConfigArn": self._arn, **request}, "http://x", ROOT)
        )


class Stacks:
    """What is done to a stack."""

    def __init__(self, control: Control) -> None:
        services = LambdaService(control, record_services(control))
        self._handlers = CloudFormation(control, services, "http://x").handlers()

    def call(self, name: str, **request: Any) -> Step:
        """Do something with it."""
        exchange = Request(b"POST", b"/")
        return lambda: self._handlers[name]({"StackName": "s", **request}, exchange)

    def change(self, name: str, kind: str, value: str) -> list[Step]:
        """Make a change set, and execute it."""
        resource = {"Type": "AWS::SSM::Parameter", "Properties": {"Type": "String", "Value": value}}
        template = json.dumps({"Resources": {"P": resource}})
        make = self.call("CreateChangeSet", ChangeSetName=name, ChangeSetType=kind, TemplateBody=template)
        return [make, self.call("ExecuteChangeSet", ChangeSetName=name)]


def scenario(control: Control) -> list[Step]:
    """Return the steps, to be done in turn."""

    def call(name: str, **request: Any) -> Step:
        return lambda: HANDLERS[name](control, Call(request, "http://x", ROOT))

    iam, ssm, sts, objects = Iam(control), Ssm(control), Sts(control), Objects(control)
    policies, signing, stacks, ecr = Policies(control), Signing(control), Stacks(control), Ecr(control)
    exchange = Request(b"POST", b"/")

    def of_policy(name: str, **request: Any) -> Step:
        return lambda: policies.handlers()[name]({"PolicyArn": MANAGED, **request}, exchange)

    def of_role(name: str, **request: Any) -> Step:
        return lambda: iam.handlers()[name]({"RoleName": "r", **request}, exchange)

    f = {"FunctionName": "f"}
    live = {**f, "Qualifier": "live"}
    create = {"Runtime": "python3.12", "Handler": "h.h", "Role": ROLE}
    statement = {"StatementId": "s", "Action": "lambda:InvokeFunction", "Principal": "*"}
    of_layer = {"LayerName": "l", "VersionNumber": 1}
    managed = "arn:aws:iam::aws:policy/ReadOnlyAccess"
    send = objects.send
    return [
        of_role("CreateRole", AssumeRolePolicyDocument=TRUST),
        of_role("TagRole", Tags=[{"Key": "a", "Value": "b"}]),
        of_role("PutRolePolicy", PolicyName="p", PolicyDocument=OWN),
        of_role("AttachRolePolicy", PolicyArn=managed),
        of_policy("CreatePolicy", PolicyName="m", PolicyDocument=OWN),
        of_policy("CreatePolicyVersion", PolicyDocument=OWN, SetAsDefault=True),
        of_policy("SetDefaultPolicyVersion", VersionId="v1"),
        of_policy("DeletePolicyVersion", VersionId="v2"),
        of_policy("TagPolicy", Tags=[{"Key": "a", "Value": "b"}]),
        of_policy("UntagPolicy", TagKeys=["a"]),
        of_policy("DeletePolicy"),
        lambda: sts.assume_role({"RoleArn": ROLE, "RoleSessionName": "s"}, exchange),
        lambda: ssm.put_parameter({"Name": "p", "Value": "1", "Type": "String"}),
        lambda: ssm.put_parameter({"Name": "p", "Value": "2", "Overwrite": True}),
        call("PublishLayerVersion", LayerName="l", Content={"ZipFile": package("layer")}),
        call("AddLayerVersionPermission", **of_layer, **{**statement, "Action": "lambda:GetLayerVersion"}),
        call("CreateFunction", **f, **create, Code={"ZipFile": package("one")}, Layers=[LAYER], Publish=True),
        call("CreateAlias", **f, Name="live", FunctionVersion="1"),
        call("AddPermission", **live, **statement),
        call("AddPermission", **f, **statement),
        call("PutResourcePolicy", ResourceArn=FUNCTION, Policy=POLICY),
        signing.create,
        signing.with_it("UpdateCodeSigningConfig", Description="d"),
        signing.with_it("PutFunctionCodeSigningConfig", **f),
        call("DeleteFunctionCodeSigningConfig", **f),
        signing.with_it("DeleteCodeSigningConfig"),
        call("TagResource", Resource=FUNCTION, Tags={"a": "b"}),
        call("CreateFunctionUrlConfig", **live, AuthType="NONE"),
        call("UpdateFunctionUrlConfig", **live, AuthType="AWS_IAM"),
        call("PutFunctionConcurrency", **f, ReservedConcurrentExecutions=5),
        call("PutProvisionedConcurrencyConfig", **live, ProvisionedConcurrentExecutions=1),
        call("UpdateFunctionCode", **f, ZipFile=package("two")),
        call("PublishVersion", **f),
        call("UpdateAlias", **f, Name="live", FunctionVersion="2"),
        call("DeleteFunction", **f, Qualifier="1"),
        call("PutFunctionEventInvokeConfig", **f, MaximumRetryAttempts=0),
        call("UpdateFunctionEventInvokeConfig", **f, MaximumEventAgeInSeconds=60),
        call("PutFunctionRecursionConfig", **f, RecursiveLoop="Allow"),
        call("PutRuntimeManagementConfig", **f, UpdateRuntimeOn="FunctionUpdate"),
        send(b"PUT", b"/bucket"),
        send(b"PUT", b"/bucket/a", package("three")),
        send(b"PUT", b"/bucket/b", b"other"),
        send(b"PUT", b"/bucket/c", x_amz_copy_source=b"/bucket/b"),
        objects.begin,
        lambda: objects.part(1, b"1" * 5 * 1024 * 1024),
        lambda: objects.part(2, b"2"),
        lambda: objects.complete(b"1" * 5 * 1024 * 1024, b"2"),
        objects.begin,
        lambda: objects.part(1, b"3"),
        objects.abort,
        call("CreateFunction", FunctionName="g", **create, Code={"S3Bucket": "bucket", "S3Key": "a"}),
        send(b"PUT", b"/bucket/a", b"replaced"),
        call("UpdateFunctionConfiguration", **f, Layers=[]),
        call("RemoveLayerVersionPermission", **of_layer, StatementId="s"),
        call("DeleteLayerVersion", **of_layer),
        send(b"DELETE", b"/bucket/b"),
        send(
            b"POST",
            b"/bucket",
            b"<Delete>%s</Delete>"
            % b"".join(b"<Object><Key>%s</Key></Object>" % key for key in (b"a", b"c", b"large")),
            b"delete",
        ),
        send(b"DELETE", b"/bucket"),
        call("RemovePermission", **live, StatementId="s"),
        call("DeleteResourcePolicy", ResourceArn=FUNCTION),
        call("UntagResource", Resource=FUNCTION, TagKeys=["a"]),
        call("DeleteFunctionUrlConfig", **live),
        call("DeleteFunctionConcurrency", **f),
        call("DeleteProvisionedConcurrencyConfig", **live),
        call("DeleteFunctionEventInvokeConfig", **f),
        call("CreateFunctionUrlConfig", **live, AuthType="NONE"),
        call("PutProvisionedConcurrencyConfig", **live, ProvisionedConcurrentExecutions=1),
        call("DeleteAlias", **f, Name="live"),
        call("AddPermission", **f, **statement),
        call("CreateAlias", **f, Name="live", FunctionVersion="2"),
        call("DeleteFunction", **f),
        lambda: ssm.delete_parameter({"Name": "p"}),
        lambda: ecr.create_repository({"repositoryName": "r"}),
        lambda: ecr.put_image_tag_mutability({"repositoryName": "r", "imageTagMutability": "IMMUTABLE"}),
        lambda: ecr.delete_repository({"repositoryName": "r"}),
        *stacks.change("one", "CREATE", "1"),
        *stacks.change("two", "UPDATE", "2"),
        stacks.call("DeleteStack"),
        of_role("UntagRole", TagKeys=["a"]),
        of_role("DeleteRolePolicy", PolicyName="p"),
        of_role("DetachRolePolicy", PolicyArn=managed),
        of_role("UpdateAssumeRolePolicy", PolicyDocument=TRUST),
        of_role("DeleteRole"),
    ]
