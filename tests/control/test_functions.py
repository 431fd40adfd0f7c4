"""CreateFunction, GetFunction, ListFunctions, updates and DeleteFunction, as boto3 sees them."""

from __future__ import annotations

import base64
import hashlib
import re
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

FUNCTION = "arn:aws:lambda:us-east-1:000000000000:function:f"


@pytest.mark.case("CP-1")
def test_a_new_function_is_pending_and_has_the_defaults(node):
    node.runtimes.gate.clear()
    reply = node.create(wait=False)
    assert reply["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert (reply["State"], reply["StateReasonCode"]) == ("Pending", "Creating")
    assert reply["StateReason"] == "The function is being created."
    assert reply["FunctionArn"] == FUNCTION
    assert (reply["Version"], reply["Timeout"], reply["MemorySize"]) == ("$LATEST", 3, 128)
    assert reply["EphemeralStorage"] == {"Size": 512}
    assert reply["Architectures"] == ["x86_64"]
    assert reply["LoggingConfig"] == {"LogFormat": "Text", "LogGroup": "/aws/lambda/f"}
    assert reply["TracingConfig"] == {"Mode": "PassThrough"}
    assert reply["CodeSha256"] == base64.b64encode(hashlib.sha256(node.zip()).digest()).decode()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000", reply["LastModified"])
    assert "LastUpdateStatus" not in reply
    assert "Environment" not in reply


@pytest.mark.case("CP-2")
def test_a_function_becomes_active_and_its_code_can_be_fetched(node):
    created = node.create(wait=False)
    node.client.get_waiter("function_active_v2").wait(FunctionName="f")
    found = node.client.get_function(FunctionName="f")
    configuration = found["Configuration"]
    assert (configuration["State"], configuration["LastUpdateStatus"]) == ("Active", "Successful")
    assert "StateReason" not in configuration
    assert configuration["RevisionId"] != created["RevisionId"]
    assert configuration["RuntimeVersionConfig"]["RuntimeVersionArn"].startswith(
        "arn:aws:lambda:us-east-1::runtime:"
    )
    assert found["Code"]["RepositoryType"] == "S3"
    with urllib.request.urlopen(found["Code"]["Location"]) as answer:
        assert answer.read() == node.zip()


@pytest.mark.case("CP-3")
def test_a_name_is_taken_once(node):
    node.create()
    refusal = node.refused(
        "create_function",
        FunctionName="f",
        Runtime="python3.12",
        Role=node.role,
        Handler="h.h",
        Code={"ZipFile": node.zip()},
    )
    assert refusal == (409, "ResourceConflictException", "Function already exist: f")


VALID = {"FunctionName": "f", "Runtime": "python3.12", "Handler": "h.h"}
INVALID = "InvalidParameterValueException"
CHECKED = "ValidationException"

REFUSED = {
    "CP-4": (
        {"Runtime": "nope"},
        INVALID,
        "Value nope at 'runtime' failed to satisfy constraint: Member must",
    ),
    "CP-4b": ({"Runtime": "nope"}, INVALID, "enum value set: ["),
    "CP-4c": ({"Runtime": "nope"}, INVALID, "] or be a valid ARN"),
    "CP-5": ({"Runtime": "PYTHON3.12"}, INVALID, "Value PYTHON3.12 at 'runtime' failed"),
    "CP-6": (
        {"Runtime": "python3.7"},
        INVALID,
        "The runtime parameter of python3.7 is no longer supported for",
    ),
    "CP-7": (
        {"Role": "r1"},
        CHECKED,
        (
            "Value 'r1' at 'role' failed to satisfy constraint: Member must satisfy regular expression "
            "pattern: arn:(aws[a-zA-Z-]*)?:iam::"
        ),
    ),
    "CP-8": (
        {"Architectures": ["x86_64", "arm64"]},
        CHECKED,
        (
            "Value '[x86_64, arm64]' at 'architectures' failed to satisfy constraint: "
            "Member must have length less than or equal to 1"
        ),
    ),
    "CP-9": (
        {"Architectures": ["X86_64"]},
        CHECKED,
        "Member must satisfy constraint: [Member must satisfy enum value set: [x86_64, arm64], Member must",
    ),
    "CP-10": (
        {"Code": {"ZipFile": b"zzz"}},
        INVALID,
        "Could not unzip uploaded file. Please check your file, then",
    ),
    "CP-11": (
        {"FunctionName": "n" * 65},
        INVALID,
        (
            f"Value '{'n' * 65}' at 'functionName' failed to satisfy constraint: "
            "Member must have length less than or equal to 64"
        ),
    ),
    "CP-12": (
        {"FunctionName": "invalid:function:name"},
        CHECKED,
        "Value 'invalid:function:name' at 'functionName'",
    ),
    "CP-15": (
        {"Environment": {"Variables": {"AB": "v" * 4088}}},
        INVALID,
        'exceeded the 4KB limit. String measured: {"AB":"vvv',
    ),
    "CP-17": (
        {"Environment": {"Variables": {"AWS_REGION": "x", "OK": "1", "LAMBDA_TASK_ROOT": "y"}}},
        INVALID,
        "Reserved keys used in this request: AWS_REGION, LAMBDA_TASK_ROOT",
    ),
    "CP-18": (
        {"MemorySize": 127},
        CHECKED,
        "at 'memorySize' failed to satisfy constraint: Member must have value gre",
    ),
    "CP-18b": ({"MemorySize": 10_241}, CHECKED, "Member must have value less than or equal to 10240"),
    "CP-19": (
        {"Timeout": 0},
        CHECKED,
        "Value '0' at 'timeout' failed to satisfy constraint: Member must have value gr",
    ),
    "CP-19b": ({"Timeout": 901}, CHECKED, "Member must have value less than or equal to 900"),
    "CP-20": ({"EphemeralStorage": {"Size": 511}}, CHECKED, "Value '511' at 'ephemeralStorage.size' failed"),
    "CP-21": (
        {"Code": {"S3Bucket": "nope", "S3Key": "k"}},
        INVALID,
        "Error occurred while GetObject. S3 Error Code: NoSuchBucket. S3 Error Message: The specified bucket",
    ),
}


@pytest.mark.parametrize(
    ("members", "code", "text"),
    [
        pytest.param(*case, id=name, marks=pytest.mark.case(name.rstrip("bc")))
        for name, case in REFUSED.items()
    ],
)
def test_a_bad_request_is_refused_in_the_words_of_aws(shared_node, members, code, text):
    node = shared_node
    request = {**VALID, "Role": node.role, "Code": {"ZipFile": node.zip()}, **members}
    status, found, message = node.refused("create_function", **request)
    assert (status, found) == (400, code)
    assert text in message
    assert node.client.list_functions()["Functions"] == []


@pytest.mark.parametrize(
    ("members", "code", "text"),
    [
        (
            {"Runtime": None, "Handler": "h.h"},
            INVALID,
            "Runtime and Handler are mandatory parameters for functions",
        ),
        (
            {"Handler": None},
            INVALID,
            "Runtime and Handler are mandatory parameters for functions created with",
        ),
        ({"Handler": "a b"}, CHECKED, "Value 'a b' at 'handler' failed"),
        (
            {"Runtime": "ruby3.4"},
            INVALID,
            "The runtime ruby3.4 is not offered by this node. It offers: python3.12, ",
        ),
        (
            {"Role": None},
            CHECKED,
            "Value null at 'role' failed to satisfy constraint: Member must not be null",
        ),
        ({"Code": {}}, INVALID, "Please provide a source for function code."),
        ({"Code": {"ZipFile": b""}}, INVALID, "Could not unzip uploaded file"),
        ({"Code": {"ZipFile": b"x", "S3Bucket": "bbb"}}, INVALID, "Please do not provide other FunctionCode"),
        (
            {"Environment": {"Variables": {"1X": "y"}}},
            CHECKED,
            "Map keys must satisfy constraint: [Member must sat",
        ),
        ({"Environment": {"Variables": {"XX": "a\0"}}}, INVALID, "XX contains a zero byte"),
        ({"LoggingConfig": {"SystemLogLevel": "INFO"}}, INVALID, "LogFormat must be JSON"),
        ({"PackageType": "Image"}, INVALID, "Container images are not offered"),
        ({"DurableConfig": {"ExecutionTimeout": 60}}, INVALID, "Durable functions are not offered"),
        (
            {"TenancyConfig": {"TenantIsolationMode": "PER_TENANT"}},
            INVALID,
            "Tenant isolation are not offered",
        ),
        pytest.param(
            {"SnapStart": {"ApplyOn": "PublishedVersions"}, "Runtime": "nodejs20.x"},
            INVALID,
            "nodejs20.x is not supported for SnapStart enabled functions.",
            marks=pytest.mark.case("CP-112", "SS-34"),
        ),
        pytest.param(
            {"SnapStart": {"ApplyOn": "invalidOption"}},
            CHECKED,
            "failed to satisfy constraint: Member must satisfy enum value set: [PublishedVersions, None]",
            marks=pytest.mark.case("SS-35"),
        ),
        ({"Timeout": "soon"}, "SerializationException", "STRING_VALUE can not be converted"),
        (
            {"Tags": {f"k{number}": "v" for number in range(51)}},
            INVALID,
            "Number of tags exceeds resource tag limit.",
        ),
        ({"FunctionName": "f:1"}, INVALID, "remove the qualifier"),
    ],
)
def test_other_bad_requests_are_refused_too(shared_node, members, code, text):
    node = shared_node
    request = {**VALID, "Role": node.role, "Code": {"ZipFile": node.zip()}, **members}
    request = {name: value for name, value in request.items() if value is not None}
    status, found, message = node.refused("create_function", **request)
    assert (status, found) == (400, code)
    assert text in message


@pytest.mark.case("CP-13")
def test_a_function_may_be_created_by_its_arn(node):
    reply = node.create(FunctionName=f"{node.arn}:function:by-arn", wait=False)
    assert reply["FunctionName"] == "by-arn"
    assert reply["FunctionArn"] == f"{node.arn}:function:by-arn"


@pytest.mark.case("CP-14")
def test_another_region_is_not_reachable(node):
    arn = "arn:aws:lambda:ap-southeast-1:000000000000:function:f"
    request = {**VALID, "FunctionName": arn, "Role": node.role, "Code": {"ZipFile": node.zip()}}
    assert node.refused("create_function", **request) == (
        404,
        "ResourceNotFoundException",
        "Functions from 'ap-southeast-1' are not reachable in this region ('us-east-1')",
    )


def test_another_account_is_forbidden(node):
    status, code, _ = node.refused(
        "get_function", FunctionName="arn:aws:lambda:us-east-1:111111111111:function:f"
    )
    assert (status, code) == (403, "AccessDeniedException")


@pytest.mark.case("CP-16")
@pytest.mark.case("CP-18")
@pytest.mark.case("CP-19")
def test_the_limits_themselves_are_allowed(node):
    variables = {"AB": "v" * (4096 - len('{"AB":""}'))}
    node.create(
        "greatest",
        MemorySize=10_240,
        Timeout=900,
        EphemeralStorage={"Size": 10_240},
        Environment={"Variables": variables},
        Description="d" * 256,
    )
    found = node.create("least", MemorySize=128, Timeout=1)
    assert (found["MemorySize"], found["Timeout"]) == (128, 1)
    assert node.settle("greatest")["Environment"] == {"Variables": variables}


@pytest.mark.case("CP-24")
def test_a_pending_function_cannot_be_updated_or_invoked(node):
    node.runtimes.gate.clear()
    node.create(wait=False)
    text = (
        "The operation cannot be performed at this time. "
        "The function is currently in the following state: Pending"
    )
    conflict = (409, "ResourceConflictException", text)
    assert node.refused("update_function_code", FunctionName="f", ZipFile=node.zip()) == conflict
    assert node.refused("update_function_configuration", FunctionName="f", Timeout=5) == conflict
    assert node.refused("invoke", FunctionName="f") == conflict


@pytest.mark.case("CP-25")
def test_one_update_at_a_time_and_the_old_one_serves_meanwhile(node):
    node.create()
    node.runtimes.gate.clear()
    reply = node.client.update_function_configuration(FunctionName="f", Description="new", Timeout=9)
    assert (reply["State"], reply["LastUpdateStatus"]) == ("Active", "InProgress")
    assert reply["LastUpdateStatusReason"] == "The function is being created."
    assert reply["LastUpdateStatusReasonCode"] == "Creating"
    assert reply["Description"] == "new"
    text = (
        f"The operation cannot be performed at this time. An update is in progress for resource: {FUNCTION}"
    )
    refusal = node.refused("update_function_configuration", FunctionName="f", Description="x")
    assert refusal == (409, "ResourceConflictException", text)

    # An invocation still runs the old configuration, and the next one after the update the new.
    node.invoke()
    node.runtimes.gate.set()
    node.settle()
    node.invoke()
    assert [deployment.function.timeout_s for deployment, _ in node.pool.calls] == [3, 9]
    assert node.pool.retired == [(FUNCTION, "$LATEST")]
    keys = {deployment.key for deployment, _ in node.pool.calls}
    assert len(keys) == 2


@pytest.mark.case("CP-26")
def test_every_step_of_an_update_has_its_own_revision(node):
    node.create()
    before = node.settle()["RevisionId"]
    during = node.client.update_function_configuration(FunctionName="f", Description="x")["RevisionId"]
    node.client.get_waiter("function_updated_v2").wait(FunctionName="f")
    after = node.settle()
    assert len({before, during, after["RevisionId"]}) == 3
    assert after["LastUpdateStatus"] == "Successful"
    assert "LastUpdateStatusReason" not in after


@pytest.mark.case("CP-27")
def test_a_stale_revision_is_refused(node):
    node.create()
    revision = "00000000-0000-4000-8000-000000000000"
    refusal = node.refused("update_function_code", FunctionName="f", ZipFile=node.zip(), RevisionId=revision)
    assert refusal == (
        412,
        "PreconditionFailedException",
        (
            "The Revision Id provided does not match the latest Revision Id. Call the "
            "GetFunction/GetAlias API to retrieve the latest Revision Id"
        ),
    )


@pytest.mark.case("CP-28")
def test_a_dry_run_changes_nothing(node):
    created = node.create()
    other = node.zip({"other.py": "x = 1"})
    reply = node.client.update_function_code(FunctionName="f", ZipFile=other, DryRun=True)
    assert reply["CodeSha256"] == base64.b64encode(hashlib.sha256(other).digest()).decode()
    assert node.settle()["CodeSha256"] == created["CodeSha256"]


def test_new_code_serves_when_it_is_ready(node):
    node.create()
    node.invoke()
    node.client.update_function_code(FunctionName="f", ZipFile=node.zip({"h.py": "new"}))
    node.settle()
    node.invoke()
    old, new = (deployment.task for deployment, _ in node.pool.calls)
    assert (new / "h.py").read_text() == "new"
    assert "return event" in (old / "h.py").read_text()  # kept, for an environment may still use it


@pytest.mark.parametrize(
    ("operation", "qualifier"),
    [
        pytest.param("get_function", "1221", marks=pytest.mark.case("CP-30")),
        ("get_function_configuration", "live"),
    ],
)
def test_an_unknown_qualifier_is_not_found(node, operation, qualifier):
    node.create()
    refusal = node.refused(operation, FunctionName="f", Qualifier=qualifier)
    assert refusal == (404, "ResourceNotFoundException", f"Function not found: {FUNCTION}:{qualifier}")


def test_an_unknown_function_is_not_found(node):
    text = f"Function not found: {FUNCTION}"
    for operation in ("get_function", "get_function_configuration", "delete_function"):
        assert node.refused(operation, FunctionName="f") == (404, "ResourceNotFoundException", text)
    refusal = node.refused("update_function_configuration", FunctionName="f", Timeout=1)
    assert refusal == (404, "ResourceNotFoundException", text)


@pytest.mark.case("CP-31")
def test_two_different_qualifiers_are_refused(node):
    node.create()
    assert node.refused("get_function", FunctionName="f:1", Qualifier="2") == (
        400,
        INVALID,
        "The derived qualifier from the function name does not match the specified qualifier.",
    )


@pytest.mark.case("CP-32")
def test_a_qualified_call_is_answered_with_a_qualified_arn(node):
    node.create()
    found = node.client.get_function(FunctionName="f:$LATEST", Qualifier="$LATEST")["Configuration"]
    assert found["FunctionArn"] == f"{FUNCTION}:$LATEST"
    assert found["Version"] == "$LATEST"


@pytest.mark.case("CP-33")
def test_a_name_that_is_no_name_is_refused(node):
    status, code, text = node.refused("get_function_configuration", FunctionName="*")
    assert (status, code) == (400, CHECKED)
    assert text.startswith(
        "1 validation error detected: Value '*' at 'functionName' failed to satisfy constraint"
    )


@pytest.mark.case("CP-34")
@pytest.mark.slow
def test_lists_come_in_pages_of_fifty(node):
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: node.create(f"f{number:03}", wait=False), range(120)))
    pages = list(node.client.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 50}))
    assert [len(page["Functions"]) for page in pages] == [50, 50, 20]
    names = [function["FunctionName"] for page in pages for function in page["Functions"]]
    assert sorted(names) == [f"f{number:03}" for number in range(120)]
    for function in pages[0]["Functions"]:
        assert not {"State", "LastUpdateStatus", "RuntimeVersionConfig"} & function.keys()
    assert len(node.client.list_functions(MaxItems=10_000)["Functions"]) == 50


@pytest.mark.case("CP-36")
def test_lists_know_one_filter_only(node):
    status, code, text = node.refused("list_functions", FunctionVersion="invalid")
    assert (status, code) == (400, CHECKED)
    assert "Member must satisfy enum value set: [ALL]" in text
    assert node.refused("list_functions", Marker="???")[:2] == (400, INVALID)


def test_all_versions_are_listed_with_qualified_arns(node):
    node.create()
    entry = node.client.list_functions(FunctionVersion="ALL")["Functions"][0]
    assert entry["FunctionArn"] == f"{FUNCTION}:$LATEST"
    versions = node.client.list_versions_by_function(FunctionName="f")["Versions"]
    assert [version["FunctionArn"] for version in versions] == [f"{FUNCTION}:$LATEST"]


@pytest.mark.case("CP-37")
def test_a_deleted_function_is_gone(node):
    node.create()
    assert node.client.delete_function(FunctionName="f")["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert node.refused("delete_function", FunctionName="f")[0] == 404
    assert node.refused("invoke", FunctionName="f")[0] == 404
    assert node.pool.retired == [(FUNCTION, None)]
    node.create(Description="again")
    assert node.settle()["Description"] == "again"


@pytest.mark.case("CP-38")
@pytest.mark.case("CP-39")
def test_deleting_a_version(node):
    node.create()
    for _ in range(2):
        reply = node.client.delete_function(FunctionName="f", Qualifier="1233")
        assert reply["ResponseMetadata"]["HTTPStatusCode"] == 204
    refusal = node.refused("delete_function", FunctionName="f", Qualifier="$LATEST")
    assert refusal == (400, INVALID, "$LATEST version cannot be deleted without deleting the function.")
    refusal = node.refused("delete_function", FunctionName="f", Qualifier="live")
    assert refusal == (400, INVALID, "Deletion of aliases is not currently supported.")


@pytest.mark.case("CP-115")
def test_log_levels_exist_with_json_only(node):
    node.create(LoggingConfig={"LogFormat": "JSON"})
    assert node.settle()["LoggingConfig"] == {
        "LogFormat": "JSON",
        "ApplicationLogLevel": "INFO",
        "SystemLogLevel": "INFO",
        "LogGroup": "/aws/lambda/f",
    }
    node.client.update_function_configuration(FunctionName="f", LoggingConfig={"LogFormat": "Text"})
    assert node.settle()["LoggingConfig"] == {"LogFormat": "Text", "LogGroup": "/aws/lambda/f"}


def test_members_that_are_absent_stay_and_empty_ones_clear(node):
    node.create(
        Description="kept",
        Environment={"Variables": {"AA": "1"}},
        DeadLetterConfig={"TargetArn": "arn:aws:sqs:us-east-1:000000000000:q"},
        VpcConfig={"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]},
        TracingConfig={"Mode": "Active"},
        Tags={"team": "a"},
    )
    node.client.update_function_configuration(FunctionName="f", Timeout=7)
    found = node.settle()
    assert (found["Description"], found["Timeout"]) == ("kept", 7)
    assert found["Environment"] == {"Variables": {"AA": "1"}}
    assert found["TracingConfig"] == {"Mode": "Active"}
    assert found["VpcConfig"]["SubnetIds"] == ["subnet-1"]
    node.client.update_function_configuration(
        FunctionName="f",
        Environment={"Variables": {}},
        DeadLetterConfig={"TargetArn": ""},
        VpcConfig={"SubnetIds": [], "SecurityGroupIds": []},
    )
    found = node.settle()
    assert not {"Environment", "DeadLetterConfig", "VpcConfig"} & found.keys()
    assert node.client.get_function(FunctionName="f")["Tags"] == {"team": "a"}
    assert node.client.list_tags(Resource=FUNCTION)["Tags"] == {"team": "a"}


def test_the_account_counts_what_is_kept(node):
    before = node.client.get_account_settings()
    assert before["AccountLimit"]["TotalCodeSize"] == 80_530_636_800
    node.create()
    after = node.client.get_account_settings()["AccountUsage"]
    assert after["FunctionCount"] == before["AccountUsage"]["FunctionCount"] + 1
    assert after["TotalCodeSize"] == before["AccountUsage"]["TotalCodeSize"] + len(node.zip())


def test_a_function_that_cannot_be_prepared_has_failed(node):
    node.runtimes.missing.add("python3.12")
    node.create(wait=False)
    found = node.settle()
    assert (found["State"], found["StateReasonCode"]) == ("Failed", "InvalidRuntime")
    assert "there is no python3.12 here" in found["StateReason"]
    status, code, text = node.refused("invoke", FunctionName="f")
    assert (status, code) == (409, "ResourceConflictException")
    assert text.endswith("Failed")


def test_an_update_that_cannot_be_prepared_leaves_the_old_one_serving(node):
    node.create(Runtime="provided.al2")
    node.runtimes.missing.add("python3.12")
    node.client.update_function_configuration(FunctionName="f", Runtime="python3.12")
    found = node.settle()
    assert (found["State"], found["LastUpdateStatus"]) == ("Active", "Failed")
    assert found["LastUpdateStatusReasonCode"] == "InvalidRuntime"
    node.invoke()
    assert node.pool.calls[0][0].function.runtime == "provided.al2"
    node.client.update_function_configuration(FunctionName="f", Runtime="provided.al2023")
    assert node.settle()["LastUpdateStatus"] == "Successful"
    node.invoke()
    assert node.pool.calls[1][0].function.runtime == "provided.al2023"


@pytest.mark.slow
def test_fifty_functions_may_be_created_at_once(node):
    with ThreadPoolExecutor(50) as threads:
        list(threads.map(lambda number: node.create(f"f{number}", wait=False), range(50)))
    for number in range(50):
        assert node.settle(f"f{number}")["State"] == "Active"
    assert node.client.get_account_settings()["AccountUsage"]["FunctionCount"] == 50


@pytest.mark.slow
def test_one_of_fifty_gets_the_name(node):
    def try_one(_: int) -> int:
        request = {**VALID, "Role": node.role, "Code": {"ZipFile": node.zip()}}
        try:
            return node.client.create_function(**request)["ResponseMetadata"]["HTTPStatusCode"]
        except node.client.exceptions.ResourceConflictException:
            return 409

    with ThreadPoolExecutor(50) as threads:
        statuses = sorted(threads.map(try_one, range(50)))
    assert statuses == [201] + [409] * 49
