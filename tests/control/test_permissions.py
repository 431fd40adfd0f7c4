"""What policies keep apart on a node that asks for keys: roles that may do some things, and nothing else."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from hashlib import sha256
from urllib.parse import quote, urlencode
from zlib import crc32

import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

ACCOUNT = "000000000000"
FUNCTION = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:f"
ROLE = f"arn:aws:iam::{ACCOUNT}:role"
BODY_BYTES_MAX = 1024 * 1024


def allow(*actions, on="*", **condition):
    found = {"Effect": "Allow", "Action": list(actions), "Resource": on}
    return {**found, "Condition": condition} if condition else found


def deny(*actions, on="*"):
    return {"Effect": "Deny", "Action": list(actions), "Resource": on}


def refusal(call, **members):
    with pytest.raises(ClientError) as caught:
        call(**members)
    response = caught.value.response
    return (
        response["ResponseMetadata"]["HTTPStatusCode"],
        response["Error"]["Code"],
        response["Error"]["Message"],
    )


def denied(call, **members):
    """Call what must be denied; return the text."""
    status, code, text = refusal(call, **members)
    assert (status, code) in {
        (403, "AccessDeniedException"),
        (400, "AccessDeniedException"),
        (403, "AccessDenied"),
    }
    return text


def definition(node, **members):
    return {
        "FunctionName": "f",
        "Runtime": "python3.12",
        "Role": f"{ROLE}/runner",
        "Handler": "h.h",
        "Code": {"ZipFile": node.zip()},
        **members,
    }


def send(node, credentials, service, method, path, *, body=b"", headers=None, host=None):
    """Sign a request that no client makes, and send it; return status and body."""
    auth = S3SigV4Auth if service == "s3" else SigV4Auth
    request = AWSRequest(method, node.endpoint + path, headers=headers or {}, data=body)
    request.headers["Host"] = host or f"127.0.0.1:{node.port}"
    auth(credentials, service, "us-east-1").add_auth(request)
    return exchange(node, method, path, request.headers, body)


def exchange(node, method, path, headers, body):
    """Send a request as it is; return status and body."""
    lines = [f"{method} {path} HTTP/1.1", "Connection: close", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    with node.connect() as connection:
        connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        received = b""
        while piece := connection.recv(65536):
            received += piece
    head, _, content = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), content


# --- Lambda -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_role_is_passed_only_by_those_who_may(guarded):
    maker = guarded.somebody("maker", allow("lambda:*"), allow("iam:PassRole", on=f"{ROLE}/runner"))
    its = guarded.client_of("lambda", maker)
    text = denied(its.create_function, **definition(guarded, Role=f"{ROLE}/admin"))
    assert text == (
        f"User: arn:aws:sts::{ACCOUNT}:assumed-role/maker/me is not authorized to perform: iam:PassRole on "
        f"resource: {ROLE}/admin because no identity-based policy allows the iam:PassRole action"
    )
    its.create_function(**definition(guarded))
    guarded.settle()
    denied(its.update_function_configuration, FunctionName="f", Role=f"{ROLE}/admin")
    its.update_function_configuration(FunctionName="f", Description="its role stays")
    guarded.settle()
    its.update_function_configuration(FunctionName="f", Role=f"{ROLE}/runner")
    abroad = denied(
        its.update_function_configuration, FunctionName="f", Role="arn:aws:iam::111111111111:role/r"
    )
    assert abroad == "Cross-account pass role is not allowed."


@pytest.mark.slow
def test_a_role_is_passed_to_the_services_that_a_condition_names(guarded):
    def maker(name, **condition):
        return guarded.client_of(
            "lambda",
            guarded.somebody(name, allow("lambda:*"), allow("iam:PassRole", **condition)),
        )

    elsewhere = maker("elsewhere", StringEquals={"iam:PassedToService": "ec2.amazonaws.com"})
    denied(elsewhere.create_function, **definition(guarded))
    other = maker("other", ArnLike={"iam:AssociatedResourceArn": f"{FUNCTION}x"})
    denied(other.create_function, **definition(guarded))
    here = maker(
        "here",
        StringEquals={"iam:PassedToService": "lambda.amazonaws.com"},
        ArnLike={"iam:AssociatedResourceArn": FUNCTION},
    )
    here.create_function(**definition(guarded))


@pytest.mark.slow
def test_the_name_of_a_role_is_not_its_arn(guarded):
    """A role that is passed with another path is another role: its namesake's policies are not its own."""
    guarded.somebody("admin", allow("*"))
    maker = guarded.somebody("maker", allow("lambda:*"), allow("iam:PassRole", on=f"{ROLE}/mine/*"))
    its = guarded.client_of("lambda", maker)
    its.create_function(**definition(guarded, Role=f"{ROLE}/mine/admin"))
    callers = guarded.callers
    found = callers._sessions.issue(f"{ROLE}/mine/admin", "f", 2**52)
    function = Credentials(found.access_key, found.secret, found.token)
    denied(guarded.client_of("lambda", function).list_functions)
    found = callers._sessions.issue(f"{ROLE}/admin", "f", 2**52)
    function = Credentials(found.access_key, found.secret, found.token)
    assert len(guarded.client_of("lambda", function).list_functions()["Functions"]) == 1


@pytest.mark.slow
def test_layers_are_attached_only_by_those_who_may_read_them(guarded):
    first, second = guarded.layer("l"), guarded.layer("secret")
    layers = f"arn:aws:lambda:us-east-1:{ACCOUNT}:layer:"
    maker = guarded.somebody(
        "maker",
        allow("lambda:CreateFunction", "lambda:UpdateFunctionConfiguration", "iam:PassRole"),
        allow("lambda:GetLayerVersion", on=f"{layers}l:*"),
    )
    its = guarded.client_of("lambda", maker)
    text = denied(its.create_function, **definition(guarded, Layers=[first, second]))
    assert f"lambda:GetLayerVersion on resource: {second} because" in text
    its.create_function(**definition(guarded, Layers=[first]))
    guarded.settle()
    denied(its.update_function_configuration, FunctionName="f", Layers=[second])
    guarded.client.add_layer_version_permission(
        LayerName="secret",
        VersionNumber=1,
        StatementId="s",
        Action="lambda:GetLayerVersion",
        Principal="*",
    )
    its.update_function_configuration(FunctionName="f", Layers=[first, second])
    assert its.get_layer_version(LayerName="secret", VersionNumber=1)["Version"] == 1
    # The version that is read is the one that is judged, whatever else the name says.
    guarded.layer("secret")
    assert "secret:2 because" in denied(its.get_layer_version, LayerName=second, VersionNumber=2)


@pytest.mark.slow
def test_conditions_name_the_layers_that_a_function_may_have(guarded):
    arn = guarded.layer("l")
    only = {"ForAllValues:StringLike": {"lambda:Layer": [f"arn:aws:lambda:us-east-1:{ACCOUNT}:layer:l:*"]}}
    maker = guarded.somebody(
        "maker", allow("lambda:CreateFunction", **only), allow("iam:PassRole", "lambda:GetLayerVersion")
    )
    its = guarded.client_of("lambda", maker)
    denied(its.create_function, **definition(guarded, Layers=[guarded.layer("other")]))
    its.create_function(**definition(guarded, Layers=[arn]))
    its.create_function(**definition(guarded, FunctionName="g"))
    # Another way to write an ARN is no way around a Deny.
    kept = f"arn:aws:lambda:us-east-1:{ACCOUNT}:layer:l:*"
    for name, refusing in (
        ("by-resource", deny("lambda:GetLayerVersion", on=kept)),
        (
            "by-key",
            deny("*") | {"Condition": {"ForAnyValue:StringLike": {"lambda:Layer": kept}}},
        ),
    ):
        its = guarded.client_of("lambda", guarded.somebody(name, allow("*"), refusing))
        for written in (arn, arn.replace("arn:aws:", "arn:aws-us-gov:"), arn.removesuffix("1") + "01"):
            denied(its.create_function, **definition(guarded, FunctionName="h", Layers=[written]))


@pytest.mark.slow
def test_code_comes_only_from_buckets_that_may_be_read(guarded):
    s3 = guarded.client_of("s3")
    for bucket in ("mine", "theirs"):
        s3.create_bucket(Bucket=bucket)
        s3.put_object(Bucket=bucket, Key="c.zip", Body=guarded.zip())
    maker = guarded.somebody(
        "maker", allow("lambda:*", "iam:PassRole"), allow("s3:GetObject", on="arn:aws:s3:::mine/*")
    )
    its = guarded.client_of("lambda", maker)
    code = {"S3Bucket": "theirs", "S3Key": "c.zip"}
    text = denied(its.create_function, **definition(guarded, Code=code))
    assert text == (
        "Your access has been denied by S3, please make sure your request credentials have permission to "
        "GetObject for theirs/c.zip. S3 Error Code: AccessDenied. S3 Error Message: Access Denied"
    )
    its.create_function(**definition(guarded, Code=code | {"S3Bucket": "mine"}))
    guarded.settle()
    denied(its.update_function_code, FunctionName="f", **code)
    denied(its.publish_layer_version, LayerName="l", Content=code)
    its.publish_layer_version(LayerName="l", Content=code | {"S3Bucket": "mine"})


@pytest.mark.slow
def test_results_go_only_where_the_functions_role_may_send_them(guarded):
    guarded.create("f", Role=f"{ROLE}/runner")
    guarded.create("other")
    maker = guarded.client_of("lambda", guarded.somebody("maker", allow("lambda:*", on=FUNCTION)))
    other = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:other"
    wanted = {"FunctionName": "f", "DestinationConfig": {"OnSuccess": {"Destination": other}}}
    for change in (maker.put_function_event_invoke_config, maker.update_function_event_invoke_config):
        assert refusal(change, **wanted) == (
            400,
            "InvalidParameterValueException",
            f"The function's execution role does not have permissions to call InvokeFunction on {other}",
        )
    guarded.somebody("runner", allow("lambda:InvokeFunction", on=other))
    maker.put_function_event_invoke_config(**wanted)
    queue = f"arn:aws:sqs:us-east-1:{ACCOUNT}:q"
    wanted["DestinationConfig"] = {"OnFailure": {"Destination": queue}}
    maker.update_function_event_invoke_config(**wanted)


@pytest.mark.slow
def test_a_qualifier_that_an_operation_passes_over_opens_nothing(guarded):
    guarded.create(Publish=True)
    guarded.client.create_alias(FunctionName="f", Name="live", FunctionVersion="1")
    caller = guarded.somebody("caller", allow("lambda:*", on=f"{FUNCTION}:live"))
    its = guarded.client_of("lambda", caller)
    assert its.invoke(FunctionName="f", Qualifier="live", Payload=b"1")["StatusCode"] == 200
    assert its.invoke(FunctionName=f"{FUNCTION}:live", Payload=b"1")["StatusCode"] == 200
    denied(its.invoke, FunctionName="f")
    denied(its.publish_version, FunctionName="f:live")
    for path in ("2015-03-31/functions/f/versions", "2015-03-31/functions/f/aliases"):
        assert send(guarded, caller, "lambda", "POST", f"/{path}?Qualifier=live", body=b"{}")[0] == 403
    assert send(guarded, caller, "lambda", "GET", "/2015-03-31/functions?FunctionName=f:live")[0] == 403


@pytest.mark.slow
def test_versions_of_layers_that_are_no_numbers_are_the_callers_fault(guarded):
    caller = guarded.somebody("caller", allow("*"))
    endless = "9" * 5_000
    arn = quote(f"arn:aws:lambda:us-east-1:{ACCOUNT}:layer:a:{endless}", safe="")
    for path in (f"layers/a/versions/{endless}", f"layers?Arn={arn}&find=LayerVersion"):
        assert send(guarded, caller, "lambda", "GET", f"/2018-10-31/{path}")[0] == 400


@pytest.mark.slow
def test_tags_are_conditions(guarded):
    guarded.create("f", Tags={"team": "a"})
    guarded.create("g", Tags={"team": "b"})
    its = guarded.client_of(
        "lambda",
        guarded.somebody(
            "one",
            allow("lambda:GetFunction*", StringEquals={"aws:ResourceTag/team": "a"}),
            allow("lambda:TagResource", **{"ForAllValues:StringEquals": {"aws:TagKeys": ["note"]}}),
        ),
    )
    assert its.get_function_configuration(FunctionName="f")["FunctionName"] == "f"
    denied(its.get_function_configuration, FunctionName="g")
    its.tag_resource(Resource=FUNCTION, Tags={"note": "x"})
    denied(its.tag_resource, Resource=FUNCTION, Tags={"note": "x", "team": "b"})


@pytest.mark.slow
def test_who_may_be_let_in_is_a_condition(guarded):
    guarded.create()
    its = guarded.client_of(
        "lambda",
        guarded.somebody(
            "opener",
            allow("lambda:AddPermission", StringEquals={"lambda:Principal": "s3.amazonaws.com"}),
            allow("lambda:*FunctionUrlConfig", StringEquals={"lambda:FunctionUrlAuthType": "AWS_IAM"}),
        ),
    )
    opened = {"FunctionName": "f", "StatementId": "s", "Action": "lambda:InvokeFunction"}
    denied(its.add_permission, Principal="*", **opened)
    its.add_permission(Principal="s3.amazonaws.com", **opened)
    denied(its.create_function_url_config, FunctionName="f", AuthType="NONE")
    its.create_function_url_config(FunctionName="f", AuthType="AWS_IAM")


@pytest.mark.slow
def test_code_signing_configurations_are_resources(guarded):
    guarded.create()
    publishers = {
        "SigningProfileVersionArns": ["arn:aws:signer:us-east-1:000000000000:/signing-profiles/p/v"]
    }
    first, second = (
        guarded.client.create_code_signing_config(AllowedPublishers=publishers, Tags={"team": team})[
            "CodeSigningConfig"
        ]["CodeSigningConfigArn"]
        for team in ("a", "b")
    )
    may = guarded.somebody(
        "signer",
        allow("lambda:GetCodeSigningConfig", on=first),
        allow("lambda:ListTags", StringEquals={"aws:ResourceTag/team": "a"}),
        allow("lambda:PutFunctionCodeSigningConfig", StringEquals={"lambda:CodeSigningConfigArn": first}),
    )
    its = guarded.client_of("lambda", may)
    for call, name in (
        (its.get_code_signing_config, "CodeSigningConfigArn"),
        (its.list_tags, "Resource"),
    ):
        call(**{name: first})
        assert second in denied(call, **{name: second})
    its.put_function_code_signing_config(FunctionName="f", CodeSigningConfigArn=first)
    denied(its.put_function_code_signing_config, FunctionName="f", CodeSigningConfigArn=second)


@pytest.mark.slow
def test_functions_are_known_by_their_credentials(guarded):
    guarded.create("other")
    only = {"ArnEquals": {"lambda:SourceFunctionArn": FUNCTION}}
    guarded.somebody("runner", allow("lambda:InvokeFunction", **only))
    for name, status in (("f", 200), ("g", 403)):
        issued = guarded.callers._sessions.issue(f"{ROLE}/runner", name, 2**52)
        its = Credentials(issued.access_key, issued.secret, issued.token)
        answer = send(guarded, its, "lambda", "POST", "/2015-03-31/functions/other/invocations", body=b"1")
        assert answer[0] == status
    denied(guarded.client_of("lambda", guarded.assume(f"{ROLE}/runner")).invoke, FunctionName="other")


# --- neighbours ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_header_does_not_name_the_operation_of_a_form(guarded):
    reader = guarded.somebody("reader", allow("iam:GetRole"))
    form = {
        "Action": "PutRolePolicy",
        "RoleName": "reader",
        "PolicyName": "p",
        "PolicyDocument": '{"Statement":[]}',
    }
    for target in ("AWS.GetRole", "AWS.GetCallerIdentity"):
        headers = {"Content-Type": "application/x-www-form-urlencoded", "X-Amz-Target": target}
        status, body = send(
            guarded, reader, "iam", "POST", "/", body=urlencode(form).encode(), headers=headers
        )
        assert (status, b"iam:PutRolePolicy" in body) == (403, True)
    page = send(guarded, reader, "monitoring", "POST", "/", body=b"Action=ListMetrics", headers=headers)
    assert (page[0], b"cloudwatch:ListMetrics" in page[1]) == (403, True)
    twice = urlencode([("Action", "GetRole"), *form.items()]).encode()
    assert send(guarded, reader, "iam", "POST", "/", body=twice)[0] == 403


@pytest.mark.slow
def test_roles_and_parameters_are_resources(guarded):
    guarded.somebody("other")
    ssm = guarded.client_of("ssm")
    for name in ("/app/a", "/app/secret", "plain"):
        ssm.put_parameter(Name=name, Value="v", Type="String")
    parameters = f"arn:aws:ssm:us-east-1:{ACCOUNT}:parameter"
    its = guarded.somebody(
        "its",
        allow("iam:GetRole", on=f"{ROLE}/path/its"),
        allow("ssm:*", on=[f"{parameters}/app/*", f"{parameters}/plain"]),
        deny("ssm:*", on=f"{parameters}/*/secret*"),
        path="/path/",
    )
    iam, ssm = guarded.client_of("iam", its), guarded.client_of("ssm", its)
    assert iam.get_role(RoleName="its")["Role"]["Path"] == "/path/"
    assert f"iam:GetRole on resource: {ROLE}/other because" in denied(iam.get_role, RoleName="other")
    for name in ("/app/a", "plain", "/plain", f"{parameters}/app/a", "/app/a:1"):
        assert ssm.get_parameter(Name=name)["Parameter"]["Value"] == "v"
    for name in ("/app/secret", "app/secret", f"{parameters}/app/secret:1", "/app/secret:1"):
        assert "explicit deny" in denied(ssm.get_parameter, Name=name)
    assert "explicit deny" in denied(ssm.get_parameters, Names=["/app/a", "/app/secret"])
    # A member that the operation does not know hides nothing.
    body = json.dumps({"Name": "/app/secret", "Names": ["/app/a"]}).encode()
    headers = {"X-Amz-Target": "AmazonSSM.GetParameter", "Content-Type": "application/x-amz-json-1.1"}
    assert b"explicit deny" in send(guarded, its, "ssm", "POST", "/", body=body, headers=headers)[1]


@pytest.fixture
def buckets(guarded):
    """Two buckets with an object each, and the credentials of who may use the first one."""
    s3 = guarded.client_of("s3")
    for bucket in ("mine", "theirs"):
        s3.create_bucket(Bucket=bucket)
        s3.put_object(Bucket=bucket, Key="k", Body=bucket.encode())
    may = guarded.somebody(
        "its",
        allow("s3:*Object", on="arn:aws:s3:::mine/*"),
        allow("s3:ListBucket", on="arn:aws:s3:::mine", StringLike={"s3:prefix": "home/*"}),
        deny("s3:DeleteObject", on="arn:aws:s3:::mine/kept*"),
    )
    return guarded, may


@pytest.mark.slow
def test_objects_are_read_and_written_where_policies_say(buckets):
    guarded, may = buckets
    its = guarded.client_of("s3", may)
    assert its.get_object(Bucket="mine", Key="k")["Body"].read() == b"mine"
    denied(its.get_object, Bucket="theirs", Key="k")
    denied(its.copy_object, Bucket="mine", Key="copy", CopySource="theirs/k")
    its.copy_object(Bucket="mine", Key="copy", CopySource="mine/k")
    denied(its.list_objects_v2, Bucket="mine")
    assert its.list_objects_v2(Bucket="mine", Prefix="home/")["KeyCount"] == 0
    its.put_object(Bucket="mine", Key="kept", Body=b"")
    several = {"Objects": [{"Key": "copy"}, {"Key": "kept"}]}
    denied(its.delete_objects, Bucket="mine", Delete=several)
    assert its.get_object(Bucket="mine", Key="kept")["ContentLength"] == 0
    its.delete_objects(Bucket="mine", Delete={"Objects": several["Objects"][:1]})
    upload = its.create_multipart_upload(Bucket="mine", Key="big")["UploadId"]
    where = {"Bucket": "mine", "Key": "big", "UploadId": upload}
    its.upload_part(PartNumber=1, Body=b"x", **where)
    assert "s3:ListMultipartUploadParts" in denied(its.list_parts, **where)
    assert "s3:AbortMultipartUpload" in denied(its.abort_multipart_upload, **where)


@pytest.mark.slow
def test_settings_of_buckets_have_permissions_of_their_own(buckets):
    guarded, _ = buckets
    reader = guarded.somebody(
        "reader",
        allow(
            "s3:GetBucket*", "s3:GetEncryptionConfiguration", "s3:ListBucketVersions", on="arn:aws:s3:::mine"
        ),
        allow("s3:GetObjectTagging", "s3:PutObject", on="arn:aws:s3:::mine/*"),
    )
    its = guarded.client_of("s3", reader)
    where = {"Bucket": "mine"}
    assert "Status" not in its.get_bucket_versioning(**where)
    its.list_object_versions(**where)
    wanted = {"VersioningConfiguration": {"Status": "Enabled"}}
    assert "s3:PutBucketVersioning" in denied(its.put_bucket_versioning, **where, **wanted)
    assert "s3:GetBucketVersioning" in denied(its.get_bucket_versioning, Bucket="theirs")
    assert "s3:GetLifecycleConfiguration" in denied(its.get_bucket_lifecycle_configuration, **where)
    assert "s3:PutLifecycleConfiguration" in denied(its.delete_bucket_lifecycle, **where)
    assert "s3:DeleteBucketPolicy" in denied(its.delete_bucket_policy, **where)
    assert "s3:PutBucketTagging" in denied(its.delete_bucket_tagging, **where)
    thing = {**where, "Key": "k"}
    assert its.get_object_tagging(**thing)["TagSet"] == []
    assert "s3:DeleteObjectTagging" in denied(its.delete_object_tagging, **thing)
    its.put_object(**thing, Body=b"")
    assert "s3:PutObjectTagging" in denied(its.put_object, **thing, Body=b"", Tagging="a=b")
    assert "s3:DeleteObjectVersion" in denied(its.delete_object, **thing, VersionId="null")
    assert "s3:GetObjectAcl" in denied(its.get_object_acl, **thing)


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [
        ("get_bucket_acl", {}, "GetBucketAcl", "policy", "GetBucketPolicy"),
        ("list_object_versions", {}, "ListBucketVersions", "tagging", "GetBucketTagging"),
        ("get_object_tagging", {"Key": "k"}, "GetObjectTagging", "uploadId=u", "ListMultipartUploadParts"),
        ("get_object_acl", {"Key": "k"}, "GetObjectAcl", "tagging", "GetObjectTagging"),
    ],
)
def test_who_names_several_parts_needs_the_permissions_for_all(buckets, case):
    guarded, _ = buckets
    operation, members, allowed, more, missing = case
    its = guarded.client_of("s3", guarded.somebody("sly", allow(f"s3:{allowed}")))
    getattr(its, operation)(Bucket="mine", **members)

    def add(request, **_):
        request.url = f"{request.url}&{more}"

    its.meta.events.register("before-sign.s3", add)
    assert f"s3:{missing}" in denied(getattr(its, operation), Bucket="mine", **members)


@pytest.mark.slow
def test_whose_a_bucket_is_can_be_a_condition(buckets):
    guarded, _ = buckets
    ours = {"aws:ResourceAccount": "000000000000", "s3:ResourceAccount": "000000000000"}
    for number, key in enumerate(ours):
        may = guarded.somebody(f"may{number}", allow("s3:GetObject", StringEquals={key: ours[key]}))
        assert guarded.client_of("s3", may).get_object(Bucket="mine", Key="k")["ContentLength"] == 4
        other = guarded.somebody(f"other{number}", allow("s3:GetObject", StringNotEquals={key: ours[key]}))
        denied(guarded.client_of("s3", other).get_object, Bucket="mine", Key="k")


@pytest.mark.slow
def test_repositories_are_judged_by_their_arn(guarded):
    maker = guarded.somebody("its", allow("ecr:*", on="arn:aws:ecr:us-east-1:000000000000:repository/mine"))
    its = guarded.client_of("ecr", maker)
    arn = its.create_repository(repositoryName="mine")["repository"]["repositoryArn"]
    its.tag_resource(resourceArn=arn, tags=[])
    assert "ecr:CreateRepository" in denied(its.create_repository, repositoryName="theirs")
    assert "ecr:DescribeRepositories" in denied(its.describe_repositories, repositoryNames=["mine", "theirs"])
    assert "ecr:ListTagsForResource" in denied(its.list_tags_for_resource, resourceArn=arn + "2")


@pytest.mark.slow
def test_the_bucket_in_a_hosts_name_is_the_one_that_is_judged(buckets):
    guarded, may = buckets
    guarded.client_of("s3").put_object(Bucket="theirs", Key="mine/k", Body=b"secret")
    host = f"theirs.s3.localhost:{guarded.port}"
    assert send(guarded, may, "s3", "GET", f"/{quote('mine/k')}", host=host)[0] == 403
    own = f"mine.s3.localhost:{guarded.port}"
    found = send(guarded, may, "s3", "GET", "/k", host=own)
    assert found == (200, b"mine"), found


# --- identities ---------------------------------------------------------------------------------------------


def text_of(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


@pytest.mark.slow
def test_sts_tells_users_from_roles(guarded):
    owner = guarded.client_of("sts").get_caller_identity()
    assert owner["Arn"] == f"arn:aws:iam::{ACCOUNT}:user/owner"
    assert re.fullmatch("AIDA[A-Z2-7]{17}", owner["UserId"])
    again = guarded.key("owner", text_of(allow("*")))
    assert guarded.client_of("sts", again).get_caller_identity()["UserId"] == owner["UserId"]
    other = guarded.client_of("sts", guarded.key("other")).get_caller_identity()
    assert (other["UserId"] != owner["UserId"], other["Account"]) == (True, ACCOUNT)
    guarded.somebody("r")
    role_id = guarded.client_of("iam").get_role(RoleName="r")["Role"]["RoleId"]
    issued = guarded.callers._sessions.issue(f"{ROLE}/r", "f", 2**52)
    function = Credentials(issued.access_key, issued.secret, issued.token)
    for credentials, session in ((guarded.assume(f"{ROLE}/r"), "me"), (function, "f")):
        found = guarded.client_of("sts", credentials).get_caller_identity()
        assert found["UserId"] == f"{role_id}:{session}"
        assert found["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/r/{session}"


@pytest.mark.slow
def test_a_key_may_do_what_its_policies_allow(guarded):
    guarded.create()
    invokes = text_of(allow("lambda:InvokeFunction", on=FUNCTION, StringEquals={"aws:username": "ci"}))
    ci = guarded.key("ci", invokes, "arn:aws:iam::aws:policy/AWSLambda_ReadOnlyAccess")
    its = guarded.client_of("lambda", ci)
    assert its.invoke(FunctionName="f", Payload=b"1")["StatusCode"] == 200
    assert len(its.list_functions()["Functions"]) == 1
    text = denied(its.delete_function, FunctionName="f")
    assert text.startswith(
        f"User: arn:aws:iam::{ACCOUNT}:user/ci is not authorized to perform: lambda:Delete"
    )
    denied(guarded.client_of("s3", ci).list_buckets)
    nothing = guarded.client_of("lambda", guarded.key("nobody"))
    denied(nothing.list_functions)
    # A function's own policy names users, too.
    guarded.client.add_permission(
        FunctionName="f",
        StatementId="s",
        Action="lambda:InvokeFunction",
        Principal=f"arn:aws:iam::{ACCOUNT}:user/nobody",
    )
    assert nothing.invoke(FunctionName="f", Payload=b"1")["StatusCode"] == 200


@pytest.mark.slow
def test_what_aws_allows_whoever_works_with_functions(guarded):
    policy = "arn:aws:iam::aws:policy/AWSLambda_FullAccess"
    worker = guarded.key("worker", policy)
    its = guarded.client_of("lambda", worker)
    its.create_function(**definition(guarded, Role=f"{ROLE}/any", Layers=[guarded.layer()]))
    guarded.client_of("iam", worker).list_roles()
    denied(guarded.client_of("iam", worker).create_role, RoleName="r", AssumeRolePolicyDocument=text_of())
    denied(guarded.client_of("s3", worker).list_buckets)
    power = guarded.key("power", "arn:aws:iam::aws:policy/PowerUserAccess")
    guarded.client_of("s3", power).list_buckets()
    denied(guarded.client_of("iam", power).create_role, RoleName="r", AssumeRolePolicyDocument=text_of())
    denied(guarded.client_of("lambda", power).create_function, **definition(guarded, FunctionName="g"))


@pytest.mark.slow
def test_a_limited_key_assumes_roles_that_trust_it(guarded):
    guarded.somebody("r")
    may = guarded.client_of("sts", guarded.key("ann", text_of(allow("sts:AssumeRole"))))
    may_not = guarded.client_of("sts", guarded.key("bob", text_of(allow("lambda:*"))))
    role = {"RoleArn": f"{ROLE}/r", "RoleSessionName": "me"}
    assert may.assume_role(**role)["AssumedRoleUser"]["Arn"].endswith("assumed-role/r/me")
    denied(may_not.assume_role, **role)
    iam = guarded.client_of("iam")
    only = {
        "Effect": "Allow",
        "Action": "sts:AssumeRole",
        "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:user/ann"},
    }
    outside = only | {"Condition": {"StringEquals": {"sts:ExternalId": "ours"}}}
    for statement, members in ((only, {}), (outside, {"ExternalId": "ours"})):
        iam.update_assume_role_policy(RoleName="r", PolicyDocument=text_of(statement))
        may.assume_role(**role, **members)
    denied(may.assume_role, **role)
    denied(may.assume_role, **role, ExternalId="theirs")


@pytest.mark.slow
def test_sessions_are_limited_by_their_policies(guarded):
    guarded.somebody("r", allow("lambda:*", "logs:*"))
    readonly = {"arn": "arn:aws:iam::aws:policy/AWSLambda_ReadOnlyAccess"}
    its = guarded.client_of("lambda", guarded.assume(f"{ROLE}/r", PolicyArns=[readonly]))
    assert its.list_functions()["Functions"] == []
    assert denied(its.delete_function, FunctionName="f").endswith(
        "because no session policy allows the lambda:DeleteFunction action"
    )
    text = text_of(allow("*"), deny("lambda:ListFunctions"))
    its = guarded.client_of("lambda", guarded.assume(f"{ROLE}/r", Policy=text))
    assert denied(its.list_functions).endswith("with an explicit deny in a session policy")
    denied(guarded.client_of("s3", guarded.assume(f"{ROLE}/r", Policy=text)).list_buckets)
    found = refusal(
        guarded.client_of("sts").assume_role, RoleArn=f"{ROLE}/r", RoleSessionName="me", Policy="{}"
    )
    assert found[1] == "MalformedPolicyDocument"


@pytest.mark.slow
def test_a_session_ends_with_its_role(guarded):
    old = guarded.somebody("r", allow("lambda:*"))
    iam, its = guarded.client_of("iam"), guarded.client_of("lambda", old)
    iam.delete_role_policy(RoleName="r", PolicyName="own")
    iam.delete_role(RoleName="r")
    assert refusal(its.list_functions)[1] == "UnrecognizedClientException"
    guarded.client_of("lambda", guarded.somebody("r", allow("lambda:*"))).list_functions()
    assert refusal(its.list_functions)[1] == "UnrecognizedClientException"


@pytest.mark.slow
def test_the_accounts_own_policies_count(guarded):
    guarded.somebody("r")
    iam = guarded.client_of("iam")
    arn = iam.create_policy(PolicyName="p", PolicyDocument=text_of(allow("lambda:List*")))["Policy"]["Arn"]
    its = guarded.client_of("lambda", guarded.assume(f"{ROLE}/r"))
    denied(its.list_functions)
    iam.attach_role_policy(RoleName="r", PolicyArn=arn)
    its.list_functions()
    denied(its.get_account_settings)
    iam.create_policy_version(
        PolicyArn=arn, PolicyDocument=text_of(allow("lambda:GetAccountSettings")), SetAsDefault=True
    )
    its.get_account_settings()
    denied(its.list_functions)
    iam.set_default_policy_version(PolicyArn=arn, VersionId="v1")
    its.list_functions()
    # The same as what a role may do at most.
    guarded.somebody("bound", allow("*"))
    iam.put_role_permissions_boundary(RoleName="bound", PermissionsBoundary=arn)
    bound = guarded.client_of("lambda", guarded.assume(f"{ROLE}/bound"))
    bound.list_functions()
    assert denied(bound.get_account_settings).endswith(
        "because no permissions boundary allows the lambda:GetAccountSettings action"
    )
    iam.delete_role_permissions_boundary(RoleName="bound")
    bound.get_account_settings()


@pytest.mark.slow
def test_a_client_of_another_region_finds_its_bucket(buckets):
    guarded, _ = buckets
    abroad = guarded.client_of("s3", region_name="eu-west-1", signature_version="s3v4")
    assert abroad.get_object(Bucket="mine", Key="k")["Body"].read() == b"mine"
    assert abroad.head_bucket(Bucket="mine")["BucketRegion"] == "us-east-1"
    found = refusal(abroad.list_buckets)
    assert found[:2] == (400, "AuthorizationHeaderMalformed")
    assert found[2].endswith("the region 'eu-west-1' is wrong; expecting 'us-east-1'")
    url = abroad.generate_presigned_url("get_object", {"Bucket": "mine", "Key": "k"})
    status, body = exchange(
        guarded, "GET", url.removeprefix(guarded.endpoint), {"Host": f"127.0.0.1:{guarded.port}"}, b""
    )
    assert (status, b"AuthorizationQueryParametersError" in body) == (400, True)


# --- sizes --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_too_much_is_said_before_a_signature_is_looked_at(guarded):
    guarded.create()
    status, code, text = refusal(
        guarded.client.invoke, FunctionName="f", Payload=b" " * 6 * BODY_BYTES_MAX + b"12"
    )
    assert (status, code) == (413, "RequestEntityTooLargeException")
    assert text.startswith("Request must be smaller than 6291456 bytes for the Invoke")
    large = "x" * 8 * BODY_BYTES_MAX
    found = refusal(guarded.client.update_function_configuration, FunctionName="f", Description=large)
    assert found[:2] == (413, "RequestEntityTooLargeException")
    ssm, iam = guarded.client_of("ssm"), guarded.client_of("iam")
    found = refusal(ssm.put_parameter, Name="p", Value=large, Type="String")
    assert found[:2] == (413, "RequestEntityTooLargeException")
    assert refusal(iam.get_role, RoleName=large)[1] == "RequestEntityTooLarge"


# --- bodies in chunks ---------------------------------------------------------------------------------------


def signed_upload(node, contents, change):
    """Sign a body chunk by chunk as AWS's documentation says; `change` sees it on its way."""
    content = b"".join(contents)
    headers = {
        "x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
        "x-amz-decoded-content-length": str(len(content)),
        "x-amz-trailer": "x-amz-checksum-crc32",
        "content-encoding": "aws-chunked",
        "Host": f"127.0.0.1:{node.port}",
    }
    request = AWSRequest("PUT", f"{node.endpoint}/bucket/k", headers=headers)
    signer = StreamingAuth(node.owner, "s3", "us-east-1")
    signer.add_auth(request)
    moment = request.headers["X-Amz-Date"]
    scope = f"{moment}\n{moment[:8]}/us-east-1/s3/aws4_request"
    empty, previous, body = sha256(b"").hexdigest(), request.headers["Authorization"][-64:], b""
    for chunk in (*contents, b""):
        text = f"AWS4-HMAC-SHA256-PAYLOAD\n{scope}\n{previous}\n{empty}\n{sha256(chunk).hexdigest()}"
        previous = signer.signature(text, request)
        body += f"{len(chunk):x};chunk-signature={previous}\r\n".encode() + chunk + b"\r\n" * bool(chunk)
    trailer = f"x-amz-checksum-crc32:{b64encode(crc32(content).to_bytes(4, 'big')).decode()}"
    text = (
        f"AWS4-HMAC-SHA256-TRAILER\n{scope}\n{previous}\n{sha256(f'{trailer}{chr(10)}'.encode()).hexdigest()}"
    )
    body += f"{trailer}\r\nx-amz-trailer-signature:{signer.signature(text, request)}\r\n\r\n".encode()
    return exchange(node, "PUT", "/bucket/k", request.headers, change(body))


class StreamingAuth(S3SigV4Auth):
    """Signs what stands in place of the body's digest."""

    def payload(self, request):
        return request.headers["x-amz-content-sha256"]

    def _modify_request_before_signing(self, request):
        SigV4Auth._modify_request_before_signing(self, request)

    def signature(self, text, request):
        request.context["timestamp"] = request.headers["X-Amz-Date"]
        return super().signature(text, request)


@pytest.mark.slow
def test_a_body_in_signed_chunks_is_checked_to_its_end(guarded):
    s3 = guarded.client_of("s3")
    s3.create_bucket(Bucket="bucket")
    contents = [b"a" * 400_000, b"tail"]
    assert signed_upload(guarded, contents, lambda body: body)[0] == 200
    assert s3.get_object(Bucket="bucket", Key="k")["Body"].read() == b"".join(contents)
    last = b"0;chunk-signature="
    for change, status, code in (
        (lambda body: body.replace(b"tail", b"tale"), 403, b"SignatureDoesNotMatch"),
        (lambda body: body.replace(b"crc32:", b"crc32:A"), 403, b"SignatureDoesNotMatch"),
        (lambda body: body[: body.index(b"x-amz-checksum")] + b"\r\n", 400, b"MalformedTrailerError"),
        (lambda body: body[: body.index(last)], 400, b"IncompleteBody"),
        (lambda body: b"4;" + body.split(b"4;", 1)[1], 400, b"IncompleteBody"),
    ):
        found = signed_upload(guarded, contents, change)
        assert (found[0], code in found[1]) == (status, True), found
    assert s3.get_object(Bucket="bucket", Key="k")["Body"].read() == b"".join(contents)
