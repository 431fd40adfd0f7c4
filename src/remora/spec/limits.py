"""
Every limit of the Lambda API that this node keeps, with its unit in the name and its source beside it.

Sources: *quotas* is "Lambda quotas" of the AWS Lambda Developer Guide, *model* the service model in botocore
(`lambda/2015-03-31/service-2.json`), *reference* the page of the operation in the AWS Lambda API Reference,
*RIE* the Runtime Interface Emulator that AWS publishes, *own* a bound of this node where AWS publishes none.
"""

from __future__ import annotations

from typing import Final

# Function configuration. The model is wider (managed instances); for ordinary functions the quotas apply.
TIMEOUT_S_MIN: Final = 1  # model
TIMEOUT_S_MAX: Final = 900  # quotas
TIMEOUT_S_DEFAULT: Final = 3  # reference, CreateFunction
MEMORY_MIB_MIN: Final = 128  # quotas
MEMORY_MIB_MAX: Final = 10_240  # quotas
MEMORY_MIB_DEFAULT: Final = 128  # reference, CreateFunction
EPHEMERAL_MIB_MIN: Final = 512  # quotas
EPHEMERAL_MIB_MAX: Final = 10_240  # quotas
EPHEMERAL_MIB_DEFAULT: Final = 512  # quotas
FUNCTION_NAME_CHARACTERS_MAX: Final = 64  # reference, CreateFunction
VARIABLES_BYTES_MAX: Final = 4_096  # quotas
LAYERS_PER_FUNCTION_MAX: Final = 5  # quotas
TAGS_PER_FUNCTION_MAX: Final = 50  # quotas
POLICY_BYTES_MAX: Final = 20_480  # quotas

# Packages.
ZIP_INLINE_BYTES_MAX: Final = 52_428_800  # quotas
UNZIPPED_BYTES_MAX: Final = 262_144_000  # quotas: code and all layers together
ARCHIVE_ENTRIES_MAX: Final = 100_000  # own: files and directories of one archive
ARCHIVE_DEPTH_MAX: Final = 128  # own: parts of one path, so that removing a tree needs little stack
SYMLINK_TARGET_BYTES_MAX: Final = 4_095  # own: PATH_MAX of Linux without the closing zero
TOTAL_CODE_BYTES_MAX: Final = 80_530_636_800  # quotas: 75 GB of zips

# Requests and responses.
CREATE_FUNCTION_BODY_BYTES_MAX: Final = 70_167_211  # observed in AWS's own error text
INVOKE_PAYLOAD_BYTES_MAX: Final = 6_291_456  # quotas: synchronous, each way
INVOKE_RESPONSE_BYTES_MAX: Final = 6_291_556  # observed in AWS's own error text
RESPONSE_STREAM_BYTES_MAX: Final = 209_715_200  # quotas: 200 MB, streamed
EVENT_PAYLOAD_BYTES_MAX: Final = 1_048_576  # quotas: asynchronous
OTHER_BODY_BYTES_MAX: Final = 6_291_456  # own: operations that carry no package
OBJECT_BYTES_MAX: Final = 268_435_456  # own: one request to S3; larger objects come in parts
CLIENT_CONTEXT_BYTES_MAX: Final = 3_583  # reference, Invoke: in its base64 form
RUNTIME_RELEASE_CHARACTERS_MAX: Final = 128  # RIE
ERROR_CAUSE_BYTES_MAX: Final = 65_536  # RIE: the cause of an error, as JSON
ERROR_CAUSE_TEXT_BYTES_MAX: Final = 30_720  # RIE: each text of a cause that is too long
LOG_TAIL_BYTES_MAX: Final = 4_096  # reference, Invoke
LIST_ITEMS_MAX: Final = 50  # reference, ListFunctions and its likes: more is cut without a word
DOWNLOAD_URL_S: Final = 600  # reference, GetFunction: the link is valid for ten minutes

# Account.
CONCURRENT_EXECUTIONS_DEFAULT: Final = 1_000  # quotas
UNRESERVED_EXECUTIONS_MIN: Final = 100  # "Configuring reserved concurrency for a function"
SCALE_OUT_ENVIRONMENTS: Final = 1_000  # "Lambda scaling behavior": per function and period, not saved up
SCALE_OUT_PERIOD_S: Final = 10  # "Lambda scaling behavior"

# Asynchronous invocation.
EVENT_RETRIES_DEFAULT: Final = 2  # reference, PutFunctionEventInvokeConfig
EVENT_AGE_S_DEFAULT: Final = 21_600  # reference, PutFunctionEventInvokeConfig: six hours
EVENT_RETRY_S: Final = (
    60  # "How Lambda handles errors and retries": after the first error, twice after the next
)
EVENT_DELAY_S_FIRST: Final = 1  # same page: throttled or system error; doubles
EVENT_DELAY_S_MAX: Final = 300  # same page
DEAD_LETTER_MESSAGE_BYTES_MAX: Final = 1_024  # "Adding a dead-letter queue": the first KB of the message
CHAIN_RUNS_MAX: Final = 16  # "Use Lambda recursive loop detection": of one function in a chain of requests

# Environments.
PROVISIONED_INIT_S_MIN: Final = 130  # "Understanding the Lambda execution environment lifecycle"

# Extensions.
EXTENSIONS_MAX: Final = 10  # "Using the Lambda Extensions API": external and internal ones together

# CloudFormation templates. *CloudFormation* is "Understand CloudFormation quotas" of its User Guide.
TEMPLATE_BYTES_MAX: Final = 1_000_000  # CloudFormation: in an S3 object; observed in the error text
TEMPLATE_BODY_BYTES_MAX: Final = 51_200  # CloudFormation: a template in a request
TEMPLATE_DEPTH_MAX: Final = 100  # own: levels of maps and lists; a policy in a role has about twelve
TEMPLATE_VALUES_MAX: Final = 250_000  # own: keys and values of a template in YAML, each takes microseconds
TEMPLATE_NODES_MAX: Final = 1_000_000  # own: values of a template whose loops have been written out
TEMPLATE_COPIES_MAX: Final = 10_000_000  # own: characters, and tens of values, that its functions may make
TEMPLATE_DESCRIPTION_BYTES_MAX: Final = 1_024  # CloudFormation
TEMPLATE_RESOURCES_MAX: Final = 500  # CloudFormation
TEMPLATE_PARAMETERS_MAX: Final = 200  # CloudFormation
TEMPLATE_OUTPUTS_MAX: Final = 200  # CloudFormation
TEMPLATE_MAPPINGS_MAX: Final = 200  # CloudFormation
TEMPLATE_MAPPING_ATTRIBUTES_MAX: Final = 200  # CloudFormation
TEMPLATE_NAME_CHARACTERS_MAX: Final = 255  # CloudFormation: of a parameter, an output, a mapping, a resource
TEMPLATE_PARAMETER_BYTES_MAX: Final = 4_096  # CloudFormation
TEMPLATE_LOOPS_NESTED_MAX: Final = 5  # "Fn::ForEach"
TEMPLATE_PATTERNS_S: Final = 2  # own: how long the patterns of one template's parameters may take
TEMPLATE_PATTERNS_MEMORY_BYTES: Final = 536_870_912  # own: address space of the process that matches them
TEMPLATE_TRANSFORM_S: Final = 60  # own: how long one transform may take
TEMPLATE_TRANSFORM_MEMORY_BYTES: Final = 2_147_483_648  # own: address space of the process of a transform
