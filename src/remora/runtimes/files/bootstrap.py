"""
Sets Python's search path as Lambda does and hands over to the runtime interface client.

Runs inside environments as /var/runtime/bootstrap.py, on every Python from 3.8: nothing newer may be used
here, and nothing imported that the client does not import anyway.
Source: AWS Lambda Developer Guide, "Layer paths for each Lambda runtime", "Handling uniqueness with Lambda
SnapStart"; runtime-api specification, 10.4.
"""

from __future__ import annotations

import os
import site
import sys


def search_path(inherited: list[str], task: str, opt: str, runtime: str) -> list[str]:
    """
    Return the search path of a function whose customer has not set PYTHONPATH.

    What happens to be installed beside the interpreter of this machine is left out: a function must find
    the same packages wherever it runs.

    Args:
        inherited: The interpreter's own search path.
        task: Directory of the function.
        opt: Directory of the merged layers.
        runtime: Directory of this file.
    """
    major, minor = sys.version_info[:2]
    named = []
    for directory in (f"{opt}/python/lib/python{major}.{minor}/site-packages", f"{opt}/python"):
        known = set(sys.path)
        site.addsitedir(directory)  # reads *.pth
        named += [directory] + [path for path in sys.path if path not in known and path != directory]
    library = [path for path in inherited if path != runtime and not path.endswith("-packages")]
    return [task, *named, runtime, *library]


def renew_openssl() -> None:
    """Reseed OpenSSL's generators, if they are loaded: they are as they were when the snapshot was taken."""
    ssl = sys.modules.get("ssl")
    if ssl is not None:
        ssl.RAND_add(os.urandom(48), 48)


def main() -> None:
    """Run the handler that `_HANDLER` names until the environment ends."""
    task = os.environ.get("LAMBDA_TASK_ROOT", "/var/task")
    runtime = os.environ.get("LAMBDA_RUNTIME_DIR", "/var/runtime")
    opt = os.environ.pop("_REMORA_OPT", "/opt")
    if os.environ.get("PYTHONPATH", runtime) == runtime:
        os.environ["PYTHONPATH"] = runtime
        sys.path[:] = search_path(list(sys.path), task, opt, runtime)
    else:
        sys.path.insert(0, task)

    # Found by the path that was set just now.
    from awslambdaric.__main__ import (  # type: ignore[import-not-found]  # noqa: PLC0415
        main as run,
    )

    if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
        from snapshot_restore_py import (  # type: ignore[import-not-found]  # noqa: PLC0415
            register_after_restore,
        )

        register_after_restore(renew_openssl)  # the first one: hooks of the function find it done
    run(["bootstrap", os.environ.get("_HANDLER", "")])


if __name__ == "__main__":
    main()
