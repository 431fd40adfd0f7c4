"""Functions and layers as frozen records: what the Lambda API shows, and what an environment is made from."""

from __future__ import annotations

import base64
from typing import Literal

import msgspec


class LayerReference(msgspec.Struct, frozen=True):
    """A layer version as a function lists it."""

    arn: str
    code_size_bytes: int
    digest: str
    """SHA-256 of the layer's zip, hexadecimal."""
    unzipped_bytes: int


class FunctionVersion(msgspec.Struct, frozen=True, kw_only=True):
    """
    One version of a function: everything that its environments depend on, and what the API shows of it.

    Source: shape FunctionConfiguration of the Lambda API model.
    """

    name: str
    version: str
    """`$LATEST` or a number."""
    arn: str
    """Unqualified function ARN."""
    runtime: str
    handler: str
    role: str
    timeout_s: int
    memory_mib: int
    ephemeral_mib: int
    description: str
    variables: dict[str, str] | None
    """Environment variables of the customer; None when never set."""
    layers: tuple[LayerReference, ...]
    architecture: Literal["x86_64", "arm64"]
    code_digest: str
    """SHA-256 of the zip, hexadecimal."""
    code_size_bytes: int
    code_unzipped_bytes: int
    revision_id: str
    last_modified: str
    state: Literal["Pending", "Active", "Inactive", "Failed"]
    state_reason: str | None = None
    state_reason_code: str | None = None
    last_update_status: Literal["Successful", "Failed", "InProgress"] | None = None
    last_update_status_reason: str | None = None
    last_update_status_reason_code: str | None = None
    snap_start: bool = False
    """True if its published versions start from snapshots."""
    is_optimized: bool = False
    """True if it has a snapshot."""
    last_used_ms: int = 0
    """About when an environment of it was last made from its snapshot, to the day; 0 if it never had one."""
    extra: dict[str, object] = {}
    """Members that are stored and echoed but change little here (TracingConfig, VpcConfig, …)."""

    def without_state(self) -> FunctionVersion:
        """Return the record as it is whatever its revision and state: two that are equal run the same."""
        return msgspec.structs.replace(
            self,
            revision_id="",
            state="Active",
            state_reason=None,
            state_reason_code=None,
            last_update_status=None,
            last_update_status_reason=None,
            last_update_status_reason_code=None,
            is_optimized=False,
            last_used_ms=0,
        )

    @property
    def code_sha256(self) -> str:
        """Digest of the zip as the API writes it: base64."""
        return base64.b64encode(bytes.fromhex(self.code_digest)).decode()

    def logging(self, member: str, default: str) -> str:
        """Return a member of LoggingConfig."""
        config = self.extra.get("LoggingConfig")
        value = config.get(member, default) if isinstance(config, dict) else default
        return value if isinstance(value, str) else default

    @property
    def log_format(self) -> str:
        """`Text` or `JSON`."""
        return self.logging("LogFormat", "Text")

    @property
    def log_group(self) -> str:
        """Name of the log group that its environments write to."""
        return self.logging("LogGroup", default_log_group(self.name))


def default_log_group(function: str) -> str:
    """Return the log group of a function whose configuration names none."""
    return f"/aws/lambda/{function}"


class LayerVersion(msgspec.Struct, frozen=True, kw_only=True):
    """
    One version of a layer.

    Source: shape GetLayerVersionResponse of the Lambda API model.
    """

    name: str
    version: int
    arn: str
    """Layer version ARN; without its last part it is the layer's ARN."""
    description: str
    license_info: str | None
    compatible_runtimes: tuple[str, ...]
    compatible_architectures: tuple[str, ...]
    created_date: str
    digest: str
    code_size_bytes: int
    unzipped_bytes: int


class Function(msgspec.Struct, frozen=True, kw_only=True):
    """What belongs to a function's name, whatever its version."""

    latest: FunctionVersion
    """`$LATEST` as the API shows it."""
    serving: FunctionVersion | None = None
    """What invocations of `$LATEST` run while `latest` is being prepared, or could not be; None: `latest`."""
    tags: dict[str, str] = {}
    next_version: int = 1
    """Number of the next version to be published; numbers are never used again."""
    published_description: str = ""
    """Description of `$LATEST` when the last version was published."""
    reserved_concurrency: int | None = None
    """Concurrent executions that are kept for the function, and not exceeded by it; None: not set."""
    recursive_loop: Literal["Terminate", "Allow"] = "Terminate"
    runtime_management: dict[str, dict[str, str]] = {}
    """Runtime management of each version that has one: `UpdateRuntimeOn`, `RuntimeVersionArn`."""
    code_signing: str = ""
    """ARN of its code signing configuration; empty if it has none."""


class CodeSigningConfig(msgspec.Struct, frozen=True, kw_only=True):
    """
    Who may sign code, and what becomes of code that they have not signed.

    Source: shape CodeSigningConfig of the Lambda API model.
    """

    arn: str
    publishers: tuple[str, ...]
    """ARNs of signing profiles."""
    policy: str
    """`Warn` or `Enforce`."""
    description: str
    last_modified: str
    tags: dict[str, str] = {}


class Alias(msgspec.Struct, frozen=True, kw_only=True):
    """
    A name for a version, or for two that share the invocations.

    Source: shape AliasConfiguration of the Lambda API model.
    """

    function: str
    name: str
    version: str
    """`$LATEST` or a number."""
    description: str
    weights: dict[str, float] = {}
    """The additional version, if there is one, and its share of the invocations, 0 to 1."""
    revision_id: str


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """What belongs to a layer's name, whatever its version."""

    name: str
    next_version: int = 1
    """Number of the next version to be published; numbers are never used again."""
