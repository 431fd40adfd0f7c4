"""`remora keys`: what keys may do, and what is refused."""

from __future__ import annotations

import json

import pytest

from remora.auth.keys import KeyFile

POLICY = json.dumps(
    {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}
)
READ_ONLY = "arn:aws:iam::aws:policy/AWSLambda_ReadOnlyAccess"


@pytest.fixture
def keys(tmp_path, remora):
    def run(*arguments):
        return remora("keys", *arguments, "--data", str(tmp_path / "data"))

    return run


def test_a_key_has_the_policies_that_it_is_given(keys, tmp_path):
    document = tmp_path / "policy.json"
    document.write_text(POLICY)
    made = keys("create", "ci", "--policy", str(document), "--policy", READ_ONLY, "--json")
    assert json.loads(made.out)["policies"] == [POLICY, READ_ONLY]
    assert keys("create", "ann").code == 0
    lines = keys("list").out.splitlines()
    assert lines[0].endswith(f"  ci  may do what is allowed by a policy of its own, {READ_ONLY}")
    assert lines[1].endswith("  ann  may do everything")
    listed = json.loads(keys("list", "--json").out)["keys"]
    assert [each["policies"] for each in listed] == [[POLICY, READ_ONLY], None]
    assert "secret_access_key" not in listed[0]
    found = KeyFile(tmp_path / "data" / "keys.json").all()
    assert found[0].user_id != found[1].user_id


def test_a_key_of_an_older_file_may_do_everything(tmp_path):
    file = tmp_path / "keys.json"
    file.write_text('[{"access_key_id": "AKIA", "secret_access_key": "s", "name": "n", "created": "c"}]')
    assert KeyFile(file).all()[0].policies is None


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"\xff", "cannot be read: it is not text in UTF-8"),
        (b"{", "is no policy: Syntax errors in policy"),
        (b'{"Statement": [{"Effect": "Allow", "Action": "*"}]}', "Policy statement must contain resources."),
    ],
)
def test_what_is_no_policy_is_refused(keys, tmp_path, content, text):
    document = tmp_path / "policy.json"
    if content is not None:
        document.write_bytes(content)
    done = keys("create", "ci", "--policy", str(document))
    assert (done.code, text in done.err) == (2, True)
    assert keys("list").out == ""


def test_a_policy_of_aws_that_no_node_knows_is_refused(keys):
    done = keys("create", "ci", "--policy", "arn:aws:iam::aws:policy/job-function/ViewOnlyAccess")
    assert (done.code, "a node knows AdministratorAccess" in done.err) == (2, True)
