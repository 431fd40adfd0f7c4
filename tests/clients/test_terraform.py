"""Terraform and its AWS provider, as they come; they have to be on the machine."""

import shutil

import pytest
from tests.acceptance.nodes import unique
from tests.acceptance.packages import RUNTIME, zip_directory

from .asking import fetched

TERRAFORM = shutil.which("terraform") or shutil.which("tofu")


@pytest.mark.skipif(TERRAFORM is None, reason="neither terraform nor tofu is on the PATH")
def test_apply_plan_update_and_destroy(node, run, project):
    name = unique("terraform")

    def pack(directory):
        (project / f"{directory}.zip").write_bytes(zip_directory(project / directory))
        return f"{directory}.zip"

    variables = {
        "TF_CLI_ARGS": "-no-color",
        "TF_INPUT": "0",
        "TF_VAR_name": name,
        "TF_VAR_runtime": RUNTIME,
        "TF_VAR_code": pack("code"),
        "TF_VAR_layer": pack("layer"),
    }

    def terraform(*arguments, code=0, **more):
        return run(TERRAFORM, *arguments, code=code, **variables, **more)

    def greeting():
        return fetched(node, terraform("output", "-raw", "url"))

    # Given what was applied
    terraform("init")
    terraform("apply", "-auto-approve")
    assert greeting() == b"hello world"
    answer = node.invoke(name, tail=True)
    assert "[shell-extension]" in answer.log, answer.log

    # When it is planned again, nothing differs
    assert "No changes." in terraform("plan", "-detailed-exitcode")

    # When something differs, it is changed, and nothing differs then
    changed = {"TF_VAR_greeting": "goodbye"}
    terraform("plan", "-detailed-exitcode", code=2, **changed)
    terraform("apply", "-auto-approve", **changed)
    assert "No changes." in terraform("plan", "-detailed-exitcode", **changed)
    assert greeting() == b"goodbye world"

    # When all is destroyed, nothing is left
    terraform("destroy", "-auto-approve", **changed)
    left = [each["FunctionName"] for each in node.client.list_functions()["Functions"]]
    assert not [each for each in left if each.startswith(name)]
