"""The code of a function in a template: text becomes a zip, the same bytes for the same text."""

from __future__ import annotations

import io
import zipfile
from typing import Any, Final

from remora.iac.calls import invalid

_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
"""The first moment that a zip can name."""
_FILES: Final = {"python": "index.py", "nodejs": "index.js"}
_CHARACTERS_MAX: Final = 4 * 1024 * 1024
"""Source: AWS::Lambda::Function Code, `ZipFile`."""


def code_of(properties: Any) -> dict[str, Any]:
    """
    Return the code of a function as CreateFunction takes it.

    Args:
        properties: Of the function.

    Raises:
        CallFailed: InvalidRequest if there is text that cannot be a file of that runtime.
    """
    code = properties.get("Code")
    if not isinstance(code, dict):
        raise invalid("#/Code: expected type: JSONObject")
    if "ZipFile" not in code:
        return code
    return {**code, "ZipFile": zipped(str(code["ZipFile"]), str(properties.get("Runtime", "")))}


def is_refiled(former: Any, properties: Any) -> bool:
    """Tell if the text of a function's code is to be in another file, since it has another runtime."""
    runtimes = (str(each.get("Runtime", "")) for each in (former, properties))
    return "ZipFile" in properties["Code"] and len(set(map(_file, runtimes))) > 1


def _file(runtime: str) -> str:
    return next((name for start, name in _FILES.items() if runtime.startswith(start)), "")


def zipped(text: str, runtime: str) -> bytes:
    """
    Return a zip with a function's text.

    Args:
        text: Of its only file.
        runtime: `python3.12`; its name decides how the file is called.

    Raises:
        CallFailed: InvalidRequest.
    """
    name = _file(runtime)
    if not name:
        raise invalid(
            f"#/Code/ZipFile: code in a template is for Node.js and Python, not for {runtime or 'none'}"
        )
    if len(text) > _CHARACTERS_MAX:
        raise invalid(f"#/Code/ZipFile: expected maxLength: {_CHARACTERS_MAX}, actual: {len(text)}")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        entry = zipfile.ZipInfo(name, _EPOCH)
        entry.external_attr = 0o100644 << 16
        archive.writestr(entry, text)
    return buffer.getvalue()
