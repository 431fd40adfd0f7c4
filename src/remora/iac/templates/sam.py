"""
The transform AWS::Serverless-2016-10-31 as a program: a request as JSON on stdin, a reply as JSON on stdout.

It is AWS's own translator, which is large, slow to import, and made for templates of people one trusts; so it
runs in a process of its own, which asks nobody for anything and cannot outlive its node or its time.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from remora.auth.managed import MANAGED
from remora.iac.templates.confinement import confine
from remora.spec import limits


class Policies:
    """What the translator asks for the ARNs of managed policies."""

    def load(self) -> dict[str, str]:
        """Return ARNs by name."""
        return {arn.rpartition("/")[2]: arn for arn in MANAGED}


def translate(template: dict[str, Any], parameters: dict[str, str]) -> dict[str, Any]:
    """
    Translate a template.

    Returns:
        `{"template": …}`, or `{"error": …}` with what is wrong with it.
    """
    # Imported here: importing it takes most of the time, and reads the environment that `main` has set.
    from samtranslator.model.exceptions import ExceptionWithMessage, InvalidDocumentException  # noqa: PLC0415
    from samtranslator.translator.transform import transform  # noqa: PLC0415

    try:
        return {"template": transform(template, parameters, Policies())}
    except InvalidDocumentException as error:
        return {"error": " ".join([error.message, *(cause.message for cause in error.causes)])}
    except ExceptionWithMessage as error:
        return {"error": error.message}


def main() -> None:
    """Answer the one request on stdin."""
    confine(limits.TEMPLATE_TRANSFORM_S, limits.TEMPLATE_TRANSFORM_MEMORY_BYTES)
    # What the libraries print is not the reply.
    replies = os.dup(1)
    os.dup2(2, 1)
    request = json.load(sys.stdin.buffer)
    os.environ["AWS_DEFAULT_REGION"] = request["region"]
    reply = translate(request["template"], request["parameters"])
    with os.fdopen(replies, "w", encoding="utf-8") as out:
        json.dump(reply, out)


if __name__ == "__main__":
    main()
