"""A node that asks for keys: real clients with right and wrong credentials, and functions as their roles."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.request
from datetime import UTC, datetime, timedelta

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from botocore.httpsession import URLLib3Session

from remora.testing.clients import read_at_once

from .conftest import running
from .nodes import REMORA, eventually, total
from .packages import RUNTIME, zip_of

ROLE = "arn:aws:iam::000000000000:role/caller"
TRUST = json.dumps({"Version": "2012-10-17", "Statement": []})
TELL = "import os\ndef handler(event, context):\n    return {k: os.environ[k] for k in event}\n"
NAMES = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"]


def keys(data, *arguments):
    done = subprocess.run(
        [REMORA, "keys", *arguments, "--data", data], capture_output=True, text=True, check=True
    )
    return done.stdout


def new_key(data, name, *options):
    made = json.loads(keys(data, "create", name, *options, "--json"))
    return {"aws_access_key_id": made["access_key_id"], "aws_secret_access_key": made["secret_access_key"]}


def client(node, service, credentials):
    return read_at_once(boto3.client(service, "us-east-1", endpoint_url=node.endpoint, **credentials))


def refused(call, *arguments, **members):
    with pytest.raises(ClientError) as caught:
        call(*arguments, **members)
    return caught.value.response["Error"]


@pytest.fixture
def guarded(data):
    """A node that asks for keys, and a key of it."""
    key = new_key(data, "ann")
    with running(data, "--auth", "keys") as node:
        yield node, key


@pytest.mark.slow
def test_who_has_no_key_gets_nothing(guarded, data, monkeypatch):
    node, key = guarded
    ours = client(node, "lambda", key)
    assert ours.list_functions()["Functions"] == []
    assert node.info["auth"] == "keys"
    limited = new_key(data, "limited", "--policy", "arn:aws:iam::aws:policy/AWSLambda_FullAccess")
    assert client(node, "lambda", limited).list_functions()["Functions"] == []
    with pytest.raises(urllib.request.HTTPError, match="403") as caught:
        environments(node, limited)
    caught.value.close()
    assert environments(node, key) == []
    wrong = key | {"aws_secret_access_key": "x"}
    assert refused(client(node, "lambda", wrong).list_functions)["Code"] == "InvalidSignatureException"
    unknown = {"aws_access_key_id": "AKIA0", "aws_secret_access_key": "x"}
    assert refused(client(node, "lambda", unknown).list_functions)["Code"] == "UnrecognizedClientException"
    assert refused(client(node, "sts", wrong).get_caller_identity)["Code"] == "SignatureDoesNotMatch"
    assert refused(client(node, "logs", wrong).describe_log_groups)["Code"] == "InvalidSignatureException"
    assert refused(client(node, "s3", wrong).list_buckets)["Code"] == "SignatureDoesNotMatch"
    abroad = boto3.client("lambda", "eu-west-1", endpoint_url=node.endpoint, **key)
    assert refused(abroad.list_functions)["Message"] == "Credential should be scoped to a valid region."
    for path, status in (("/2015-03-31/functions", 403), ("/_remora/environments", 403), ("/metrics", 403)):
        with pytest.raises(urllib.request.HTTPError) as caught:
            urllib.request.urlopen(node.endpoint + path)
        with caught.value:
            assert caught.value.code == status
    for path in ("/health", "/_remora/health"):
        with urllib.request.urlopen(f"{node.endpoint}{path}") as answer:
            assert json.load(answer)["status"] == "ok"
    with urllib.request.urlopen(urllib.request.Request(f"{node.endpoint}/health", method="HEAD")) as answer:
        assert (answer.status, answer.read()) == (200, b"")
    # A bucket and an object may be called so, too.
    s3 = client(node, "s3", key)
    signed = AWSRequest("GET", f"{node.endpoint}/health")
    SigV4Auth(Credentials(*key.values()), "lambda", "us-east-1").add_auth(signed)
    with urllib.request.urlopen(urllib.request.Request(signed.url, headers=dict(signed.headers))) as answer:
        assert answer.status == 200
    s3.create_bucket(Bucket="health")
    s3.head_bucket(Bucket="health")
    s3.put_object(Bucket="health", Key="health", Body=b"x")
    virtual = urllib.request.Request(f"{node.endpoint}/health", headers={"Host": "health.s3.localhost"})
    with pytest.raises(urllib.request.HTTPError, match="403") as caught:
        urllib.request.urlopen(virtual)
    caught.value.close()
    late = datetime.now(UTC) - timedelta(minutes=6)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: late.replace(tzinfo=None))
    assert "Signature expired: " in refused(ours.list_functions)["Message"]


@pytest.mark.slow
def test_a_request_of_a_stock_client_is_good_once(guarded):
    node, key = guarded
    settings = {"Runtime": RUNTIME, "Handler": "h.h", "Role": ROLE, "Code": {"ZipFile": zip_of({"h.py": ""})}}
    sent = []
    for service, operation, members in (
        ("lambda", "create_function", {"FunctionName": "f", **settings}),
        ("lambda", "list_functions", {}),
        ("s3", "create_bucket", {"Bucket": "bucket"}),
        ("s3", "put_object", {"Bucket": "bucket", "Key": "k", "Body": b"x" * 300_000}),
        ("iam", "list_roles", {}),
        ("logs", "describe_log_groups", {}),
    ):
        ours = client(node, service, key)
        ours.meta.events.register("before-send", lambda request, **_: sent.append(request))
        getattr(ours, operation)(**members)
        if operation != "create_function":
            getattr(ours, operation)(**members)  # within the same second, but a call of its own
    assert len(sent) == 11
    again = URLLib3Session()
    for request in sent:
        if hasattr(request.body, "seek"):
            request.body.seek(0)
        answer = again.send(request)
        assert answer.status_code in (400, 403)
        assert b"This request was sent before" in answer.content
    again.close()
    # A client that does not say which call it is may repeat it.
    signed = AWSRequest("GET", f"{node.endpoint}/2015-03-31/functions")
    SigV4Auth(Credentials(*key.values()), "lambda", "us-east-1").add_auth(signed)
    for _ in range(2):
        with urllib.request.urlopen(
            urllib.request.Request(signed.url, headers=dict(signed.headers))
        ) as answer:
            assert answer.status == 200


@pytest.mark.slow
def test_a_key_is_good_until_it_is_deleted(guarded, data):
    node, _ = guarded
    second = new_key(data, "bob")
    signing = Config(signature_version="s3v4")
    theirs = boto3.client("s3", "us-east-1", endpoint_url=node.endpoint, config=signing, **second)
    theirs.create_bucket(Bucket="code")
    theirs.put_object(Bucket="code", Key="a b/ü", Body=b"x" * 300_000)
    url = theirs.generate_presigned_url("get_object", {"Bucket": "code", "Key": "a b/ü"}, ExpiresIn=60)
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == b"x" * 300_000
    environment = {"PATH": os.environ["PATH"], "HOME": str(data)}
    command = [REMORA, "ps", "--endpoint", node.endpoint]
    assert subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 3
    mine = {name.upper(): value for name, value in second.items()}
    assert subprocess.run(command, env=environment | mine, capture_output=True, check=False).returncode == 0
    keys(data, "delete", second["aws_access_key_id"])
    assert refused(theirs.list_buckets)["Code"] == "InvalidClientTokenId"


@pytest.mark.slow
def test_a_function_may_do_what_its_role_may(guarded):
    node, key = guarded
    ours, iam = client(node, "lambda", key), client(node, "iam", key)
    iam.create_role(RoleName="caller", AssumeRolePolicyDocument=TRUST)
    create = {
        "Runtime": RUNTIME,
        "Role": ROLE,
        "Handler": "app.handler",
        "Code": {"ZipFile": zip_of({"app.py": TELL})},
    }
    for name in ("teller", "other"):
        ours.create_function(FunctionName=name, **create)
        ours.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
    told = json.load(ours.invoke(FunctionName="teller", Payload=json.dumps(NAMES))["Payload"])
    its = client(node, "lambda", {name.lower(): told[name] for name in NAMES})

    denied = refused(its.invoke, FunctionName="other", Payload=b"[]")
    assert denied["Code"] == "AccessDeniedException"
    other = "arn:aws:lambda:us-east-1:000000000000:function:other"
    assert denied["Message"] == (
        "User: arn:aws:sts::000000000000:assumed-role/caller/teller is not authorized to perform: "
        f"lambda:InvokeFunction on resource: {other} because no identity-based policy allows the "
        "lambda:InvokeFunction action"
    )
    policy = {"Statement": [{"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": other}]}
    iam.put_role_policy(RoleName="caller", PolicyName="p", PolicyDocument=json.dumps(policy))
    assert its.invoke(FunctionName="other", Payload=b"[]")["StatusCode"] == 200
    assert refused(its.invoke, FunctionName="teller")["Code"] == "AccessDeniedException"
    assert refused(its.delete_function, FunctionName="other")["Code"] == "AccessDeniedException"
    forged = {name.lower(): told[name] for name in NAMES} | {
        "aws_session_token": told[NAMES[2]][:-8] + "AAAAAAA="
    }
    assert refused(client(node, "lambda", forged).list_functions)["Code"] == "UnrecognizedClientException"

    iam.delete_role_policy(RoleName="caller", PolicyName="p")
    assert refused(its.invoke, FunctionName="other", Payload=b"[]")["Code"] == "AccessDeniedException"
    ours.add_permission(FunctionName="other", StatementId="s", Action="lambda:InvokeFunction", Principal=ROLE)
    assert its.invoke(FunctionName="other", Payload=b"[]")["StatusCode"] == 200
    eventually(lambda: all(each["state"] == "idle" for each in environments(node, key)))


@pytest.mark.slow
def test_results_do_not_go_where_the_role_may_not_send_them_any_more(guarded):
    node, key = guarded
    ours, iam, metrics = (client(node, service, key) for service in ("lambda", "iam", "cloudwatch"))
    iam.create_role(RoleName="caller", AssumeRolePolicyDocument=TRUST)
    create = {
        "Runtime": RUNTIME,
        "Role": ROLE,
        "Handler": "app.handler",
        "Code": {"ZipFile": zip_of({"app.py": "def handler(event, context):\n    return 1\n"})},
    }
    for name in ("teller", "other"):
        ours.create_function(FunctionName=name, **create)
        ours.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
    other = "arn:aws:lambda:us-east-1:000000000000:function:other"
    wanted = {"FunctionName": "teller", "DestinationConfig": {"OnSuccess": {"Destination": other}}}
    error = refused(ours.put_function_event_invoke_config, **wanted)
    assert error["Code"] == "InvalidParameterValueException"
    policy = {"Statement": [{"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": other}]}
    iam.put_role_policy(RoleName="caller", PolicyName="p", PolicyDocument=json.dumps(policy))
    ours.put_function_event_invoke_config(**wanted)

    ours.invoke(FunctionName="teller", InvocationType="Event")
    eventually(lambda: total(metrics, "Invocations", "other") == 1)
    iam.delete_role_policy(RoleName="caller", PolicyName="p")
    ours.invoke(FunctionName="teller", InvocationType="Event")
    eventually(lambda: total(metrics, "DestinationDeliveryFailures", "teller") == 1)
    assert (total(metrics, "Invocations", "teller"), total(metrics, "Invocations", "other")) == (2, 1)


def environments(node, key):
    """Ask the node's own API, signed."""
    request = AWSRequest("GET", f"{node.endpoint}/_remora/environments")
    own = Credentials(key["aws_access_key_id"], key["aws_secret_access_key"])
    SigV4Auth(own, "remora", "us-east-1").add_auth(request)
    asked = urllib.request.Request(request.url, headers=dict(request.headers.items()))
    with urllib.request.urlopen(asked) as answer:
        return json.load(answer)["environments"]


def test_an_address_for_others_needs_keys(data):
    command = [REMORA, "up", "--host", "0.0.0.0", "--port", "0", "--data", data]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert done.stderr.splitlines() == [
        "remora: whoever reaches 0.0.0.0 could run anything on this machine",
        "hint: ask for keys: --auth keys (see `remora keys`)",
    ]


@pytest.mark.slow
def test_a_role_is_assumed_by_those_it_trusts(guarded):
    node, key = guarded
    iam, sts = client(node, "iam", key), client(node, "sts", key)
    assert sts.get_caller_identity()["Arn"] == "arn:aws:iam::000000000000:user/ann"
    allow = {"Effect": "Allow", "Action": "sts:AssumeRole"}

    def make(name, *principals):
        trust = {"Version": "2012-10-17", "Statement": [{**allow, "Principal": {"AWS": list(principals)}}]}
        return iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]

    first = make("first", "arn:aws:iam::000000000000:root")
    trusting, wary = make("trusting", first), make("wary", "arn:aws:iam::000000000000:role/other")
    unnamed = make("unnamed", first)
    policy = {"Version": "2012-10-17", "Statement": [{**allow, "Resource": [trusting, wary]}]}
    iam.put_role_policy(RoleName="first", PolicyName="p", PolicyDocument=json.dumps(policy))

    def session(credentials):
        return {
            "aws_access_key_id": credentials["AccessKeyId"],
            "aws_secret_access_key": credentials["SecretAccessKey"],
            "aws_session_token": credentials["SessionToken"],
        }

    def assume(caller, arn):
        return session(caller.assume_role(RoleArn=arn, RoleSessionName="me")["Credentials"])

    one = client(node, "sts", assume(sts, first))
    assert one.get_caller_identity()["Arn"].endswith(":assumed-role/first/me")
    two = client(node, "sts", assume(one, trusting))
    assert two.get_caller_identity()["Arn"].endswith(":assumed-role/trusting/me")
    # One does not trust, the other is not allowed by the role's own policy.
    for arn in (wary, unnamed):
        assert refused(one.assume_role, RoleArn=arn, RoleSessionName="me")["Code"] == "AccessDenied"
