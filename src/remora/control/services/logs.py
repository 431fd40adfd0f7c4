"""
CloudWatch Logs: the operations that people use to look at what functions wrote.

Source: Amazon CloudWatch Logs API Reference.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from remora.control.services.neighbour import Neighbour, ServiceError
from remora.control.services.pages import one_page, read_token, write_token
from remora.spec import rpc_api
from remora.telemetry.log_files import LogGroup, LogLine
from remora.telemetry.log_patterns import PatternError, compile_pattern
from remora.telemetry.log_queries import (
    END_MS,
    FIRST,
    LAST,
    PAGE_LINES_MAX,
    Key,
    Position,
    Range,
    StreamPage,
    read_backward,
    read_forward,
    search,
    size_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from remora.control.services.neighbour import Handler
    from remora.kit.clock import Clock
    from remora.resources.names import Place
    from remora.telemetry.log_files import LogFiles, Stream
    from remora.telemetry.logs import LogStore

SERVICE: Final = "logs"

RETENTIONS_DAYS: Final = (
    *(1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288),
    3653,
)
"""Source: PutRetentionPolicy."""
BATCH_BYTES_MAX: Final = 1_048_576
_DAY_MS: Final = 24 * 3600 * 1000
_EARLY_MS: Final = 2 * 3600 * 1000
_OLD_MS: Final = 14 * _DAY_MS
_TAGS_MAX: Final = 50
_ARN: Final = re.compile(r"arn:aws[^:]*:logs:[^:]*:\d{12}:log-group:([^:]+)(?::\*)?")

Request = dict[str, Any]
Reply = dict[str, Any]


class Sought(NamedTuple):
    """What a search is for; what goes with its token has to stay the same."""

    group: str
    streams: tuple[str, ...] | None
    when: Range
    pattern: str


class Logs:
    """
    Performs the operations.

    Args:
        store: The node's log groups.
        place: Region and account of the node.
        clock: The node's clock.
    """

    def __init__(self, store: LogStore, place: Place, clock: Clock) -> None:
        self._store = store
        self._place = place
        self._clock = clock

    def __repr__(self) -> str:
        return f"<Logs of {self._place.region}>"

    def handlers(self) -> Mapping[str, Handler]:
        """Return what performs each operation, by its name in the model."""
        return {
            "CreateLogGroup": self.create_log_group,
            "CreateLogStream": self.create_log_stream,
            "DeleteLogGroup": self.delete_log_group,
            "DeleteLogStream": self.delete_log_stream,
            "DeleteRetentionPolicy": self.delete_retention_policy,
            "DescribeLogGroups": self.describe_log_groups,
            "DescribeLogStreams": self.describe_log_streams,
            "FilterLogEvents": self.filter_log_events,
            "GetLogEvents": self.get_log_events,
            "ListTagsForResource": self.list_tags_for_resource,
            "ListTagsLogGroup": self.list_tags_log_group,
            "PutLogEvents": self.put_log_events,
            "PutRetentionPolicy": self.put_retention_policy,
            "TagResource": self.tag_resource,
            "UntagResource": self.untag_resource,
        }

    # --- groups --------------------------------------------------------------------------------------------

    async def create_log_group(self, request: Request) -> Reply:
        """Make an empty group."""
        name, tags = request["logGroupName"], request.get("tags", {})
        now_ms = self._clock.wall_ms()

        def create(files: LogFiles) -> None:
            if files.group(name) is not None:
                raise ServiceError("ResourceAlreadyExistsException", "The specified log group already exists")
            files.put_group(LogGroup(name, now_ms, None, tags))

        await self._store.ask(create)
        return {}

    async def delete_log_group(self, request: Request) -> Reply:
        """Remove a group with everything in it."""

        def delete(files: LogFiles) -> None:
            files.remove_group(_existing(files, request["logGroupName"]).name)

        await self._store.ask(delete)
        return {}

    async def describe_log_groups(self, request: Request) -> Reply:
        """List groups, one page."""
        prefix, pattern = request.get("logGroupNamePrefix", ""), request.get("logGroupNamePattern", "")
        if prefix and pattern:
            raise _invalid("logGroupNamePrefix and logGroupNamePattern cannot both be given")
        wanted = {identified(identifier) for identifier in request.get("logGroupIdentifiers", ())}
        groups = [
            (group, size_bytes)
            for group, size_bytes in await self._store.ask(lambda files: files.groups())
            if group.name.startswith(prefix)
            and pattern.lower() in group.name.lower()
            and (not wanted or group.name in wanted)
        ]
        page, token = one_page(groups, request, default=50, name=lambda each: each[0].name)
        return {"logGroups": [self._described(*each) for each in page], "nextToken": token}

    def _described(self, group: LogGroup, size_bytes: int) -> Reply:
        arn = self._arn(group.name)
        return {
            "logGroupName": group.name,
            "creationTime": group.created_ms,
            "retentionInDays": group.retention_days,
            "metricFilterCount": 0,
            "arn": f"{arn}:*",
            "storedBytes": size_bytes,
            "logGroupClass": "STANDARD",
            "logGroupArn": arn,
        }

    def _arn(self, group: str) -> str:
        return f"arn:aws:logs:{self._place.region}:{self._place.account}:log-group:{group}"

    async def put_retention_policy(self, request: Request) -> Reply:
        """Keep a group's events for so many days."""
        days = request["retentionInDays"]
        if days not in RETENTIONS_DAYS:
            raise _invalid(f"retentionInDays is one of {', '.join(map(str, RETENTIONS_DAYS))}, not {days}")
        await self._change(request["logGroupName"], lambda group: _with(group, retention_days=days))
        return {}

    async def delete_retention_policy(self, request: Request) -> Reply:
        """Keep a group's events for ever."""
        await self._change(request["logGroupName"], lambda group: _with(group, retention_days=None))
        return {}

    async def list_tags_for_resource(self, request: Request) -> Reply:
        """List the tags of a group."""
        name = identified(request["resourceArn"])
        return {"tags": (await self._store.ask(_existing, name)).tags}

    async def list_tags_log_group(self, request: Request) -> Reply:
        """List the tags of a group; the former operation."""
        return {"tags": (await self._store.ask(_existing, request["logGroupName"])).tags}

    async def tag_resource(self, request: Request) -> Reply:
        """Add tags to a group."""

        def tagged(group: LogGroup) -> LogGroup:
            tags = {**group.tags, **request["tags"]}
            if len(tags) > _TAGS_MAX:
                raise ServiceError("TooManyTagsException", f"A log group has at most {_TAGS_MAX} tags")
            return _with(group, tags=tags)

        await self._change(identified(request["resourceArn"]), tagged)
        return {}

    async def untag_resource(self, request: Request) -> Reply:
        """Take tags away from a group."""
        gone = set(request["tagKeys"])

        def untagged(group: LogGroup) -> LogGroup:
            return _with(group, tags={key: value for key, value in group.tags.items() if key not in gone})

        await self._change(identified(request["resourceArn"]), untagged)
        return {}

    async def _change(self, name: str, change: Callable[[LogGroup], LogGroup]) -> None:
        await self._store.ask(lambda files: files.put_group(change(_existing(files, name))))

    # --- streams -------------------------------------------------------------------------------------------

    async def create_log_stream(self, request: Request) -> Reply:
        """Make an empty stream."""
        group, stream = request["logGroupName"], request["logStreamName"]
        now_ms = self._clock.wall_ms()

        def create(files: LogFiles) -> None:
            _existing(files, group)
            if files.has_stream(group, stream):
                text = "The specified log stream already exists"
                raise ServiceError("ResourceAlreadyExistsException", text)
            files.put_stream(group, stream, now_ms)

        await self._store.ask(create)
        return {}

    async def delete_log_stream(self, request: Request) -> Reply:
        """Remove a stream with everything in it."""
        group, stream = request["logGroupName"], request["logStreamName"]

        def delete(files: LogFiles) -> None:
            _existing_stream(files, group, stream)
            files.remove_stream(group, stream)

        await self._store.ask(delete)
        return {}

    async def describe_log_streams(self, request: Request) -> Reply:
        """List streams, one page."""
        group, prefix = _group_of(request), request.get("logStreamNamePrefix", "")
        is_by_time = request.get("orderBy") == "LastEventTime"
        if prefix and is_by_time:
            raise _invalid("Cannot order by LastEventTime with a logStreamNamePrefix.")

        def find(files: LogFiles) -> list[Stream]:
            _existing(files, group)
            return [stream for stream in files.streams(group) if stream.name.startswith(prefix)]

        streams = await self._store.ask(find)
        if is_by_time:
            streams.sort(key=lambda stream: max(segment.last_ms for segment in stream.segments))
        if request.get("descending"):
            streams.reverse()
        page, token = one_page(streams, request, default=50, name=lambda stream: stream.name)
        return {"logStreams": [self._described_stream(group, each) for each in page], "nextToken": token}

    def _described_stream(self, group: str, stream: Stream) -> Reply:
        segments = [segment for segment in stream.segments if segment.first_ms >= 0]
        last_ms = max((segment.last_ms for segment in segments), default=None)
        return {
            "logStreamName": stream.name,
            "creationTime": stream.created_ms,
            "firstEventTimestamp": min((segment.first_ms for segment in segments), default=None),
            "lastEventTimestamp": last_ms,
            "lastIngestionTime": segments[-1].ingested_ms if segments else None,
            "uploadSequenceToken": hashlib.sha256(stream.name.encode()).hexdigest()[:56],
            "arn": f"{self._arn(group)}:log-stream:{stream.name}",
            "storedBytes": 0,
        }

    # --- events --------------------------------------------------------------------------------------------

    async def put_log_events(self, request: Request) -> Reply:
        """Add events to a stream; those that are too old or too new are left out."""
        group, stream = request["logGroupName"], request["logStreamName"]
        now_ms = self._clock.wall_ms()
        lines = [LogLine(event["timestamp"], event["message"], "", now_ms) for event in request["logEvents"]]
        times = [line.timestamp_ms for line in lines]
        if times != sorted(times):
            raise _invalid("Log events in a single PutLogEvents request must be in chronological order.")
        if times[-1] - times[0] > _DAY_MS:
            text = "The batch of log events in a single PutLogEvents request cannot span more than 24 hours."
            raise _invalid(text)
        if sum(map(size_of, lines)) > BATCH_BYTES_MAX:
            raise _invalid(f"Upload too large: bytes exceed limit of {BATCH_BYTES_MAX}")
        known = await self._store.ask(_existing_stream, group, stream)
        days = known.retention_days
        expired_ms = now_ms - days * _DAY_MS if days is not None else 0
        taken, rejected = _sorted_out(lines, now_ms, expired_ms)
        self._store.extend(group, stream, taken)
        await self._store.flush()
        token = hashlib.sha256(f"{stream}{now_ms}".encode()).hexdigest()[:56]
        return {"nextSequenceToken": token, "rejectedLogEventsInfo": rejected or None}

    async def get_log_events(self, request: Request) -> Reply:
        """Read one stream, one page, in either direction."""
        group, stream = _group_of(request), request["logStreamName"]
        when = Range(request.get("startTime", 0), request.get("endTime", END_MS))
        limit = request.get("limit", PAGE_LINES_MAX)
        direction, position = _direction(request)

        def read(files: LogFiles) -> StreamPage:
            known = _existing_stream(files, group, stream)
            kept = self._kept(known, when)
            if direction == "f":
                return read_forward(files, group, stream, kept, after=position, limit=limit)
            return read_backward(files, group, stream, kept, before=position, limit=limit)

        page = await self._store.ask(read)
        first, last = page.first, page.last
        if first is None or last is None:
            # The end in this direction: the same token again, and one that leads back.
            first = Position(position.segment, position.line + 1) if direction == "f" else position
            last = position if direction == "f" else Position(position.segment, position.line - 1)
            if position == LAST:
                last = FIRST
        return {
            "events": [_shown(line) for line in page.lines],
            "nextForwardToken": f"f/{last.segment}.{last.line}",
            "nextBackwardToken": f"b/{first.segment}.{first.line}",
        }

    async def filter_log_events(self, request: Request) -> Reply:
        """Search a group, one page, oldest first."""
        group, names = _group_of(request), request.get("logStreamNames")
        prefix, pattern = request.get("logStreamNamePrefix", ""), request.get("filterPattern", "")
        if names and prefix:
            raise _invalid("logStreamNames and logStreamNamePrefix cannot both be given")
        if request.get("startFromHead") is False:
            raise _invalid("this node searches from the earliest event only: leave startFromHead away")
        when = Range(request.get("startTime", 0), request.get("endTime", END_MS - 1) + 1)
        limit = request.get("limit", PAGE_LINES_MAX)
        after = read_token(request["nextToken"], Key) if "nextToken" in request else None
        try:
            matches = compile_pattern(pattern)
        except PatternError as error:
            raise _invalid(f"Invalid filter pattern: {error}") from error

        def find(files: LogFiles) -> Reply:
            kept = self._kept(_existing(files, group), when)
            streams = list(dict.fromkeys(names)) if names else None
            for name in streams or ():
                _existing_stream(files, group, name)
            page = search(
                files,
                group,
                streams,
                kept,
                keeps=lambda stream, line: stream.startswith(prefix) and matches(line.message),
                after=after,
                limit=limit,
            )
            return {
                "events": [_found(key, line) for key, line in page.lines],
                "searchedLogStreams": [],
                "nextToken": write_token(page.next) if page.next is not None else None,
            }

        return await self._store.ask(find)

    def _kept(self, group: LogGroup, when: Range) -> Range:
        """Return the part of a range that the group's retention has left."""
        if group.retention_days is None:
            return when
        return when._replace(
            start_ms=max(when.start_ms, self._clock.wall_ms() - group.retention_days * _DAY_MS)
        )


def logs_service(store: LogStore, place: Place, clock: Clock, new_id: Callable[[], str]) -> Neighbour:
    """Return CloudWatch Logs as a service behind the node's endpoint."""
    handlers = Logs(store, place, clock).handlers()
    api = rpc_api.load("logs", "2014-03-28", handlers.keys())
    return Neighbour(SERVICE, api, handlers, new_id, invalid="InvalidParameterException")


def _invalid(message: str) -> ServiceError:
    return ServiceError("InvalidParameterException", message)


def _with(group: LogGroup, **members: Any) -> LogGroup:
    return msgspec.structs.replace(group, **members)


def _existing(files: LogFiles, name: str) -> LogGroup:
    group = files.group(name)
    if group is None:
        raise ServiceError("ResourceNotFoundException", "The specified log group does not exist.")
    return group


def _existing_stream(files: LogFiles, group: str, stream: str) -> LogGroup:
    known = _existing(files, group)
    if not files.has_stream(group, stream):
        raise ServiceError("ResourceNotFoundException", "The specified log stream does not exist.")
    return known


def identified(identifier: str) -> str:
    """
    Return the name in what the API takes for a group: a name or an ARN.

    Raises:
        ServiceError: InvalidParameterException if it is an ARN of something else.
    """
    if not identifier.startswith("arn:"):
        return identifier
    match = _ARN.fullmatch(identifier)
    if match is None:
        raise _invalid(f"{identifier} is no ARN of a log group")
    return match[1]


def _group_of(request: Request) -> str:
    name, identifier = request.get("logGroupName"), request.get("logGroupIdentifier")
    if (name is None) == (identifier is None):
        raise _invalid("Give either logGroupName or logGroupIdentifier")
    return name if name is not None else identified(identifier or "")


def _direction(request: Request) -> tuple[str, Position]:
    """Return where a page begins and which way it goes: `f` after the position, `b` before it."""
    token = request.get("nextToken")
    if token is None:
        return ("f", FIRST) if request.get("startFromHead") else ("b", LAST)
    match = re.fullmatch(r"([fb])/(\d{1,19})\.(-?\d{1,19})", token)
    if match is None:
        raise _invalid("The specified nextToken is invalid.")
    return match[1], Position(int(match[2]), int(match[3]))


def _sorted_out(lines: list[LogLine], now_ms: int, expired_ms: int) -> tuple[list[LogLine], dict[str, int]]:
    """Return the lines that are taken, and what is said about the others."""
    old = sum(line.timestamp_ms < now_ms - _OLD_MS for line in lines)
    expired = sum(line.timestamp_ms < expired_ms for line in lines)
    new = sum(line.timestamp_ms > now_ms + _EARLY_MS for line in lines)
    rejected = {}
    if new:
        rejected["tooNewLogEventStartIndex"] = len(lines) - new
    if old:
        rejected["tooOldLogEventEndIndex"] = old
    if expired > old:
        rejected["expiredLogEventEndIndex"] = expired
    return lines[max(old, expired) : len(lines) - new], rejected


def _shown(line: LogLine) -> Reply:
    """Show a line; what functions and the platform wrote ends with a newline, what was put is as it was."""
    return {
        "timestamp": line.timestamp_ms,
        "message": line.message if line.ingested_ms else f"{line.message}\n",
        "ingestionTime": line.ingested_ms or line.timestamp_ms,
    }


def _found(key: Key, line: LogLine) -> Reply:
    stream = int(hashlib.sha256(key.stream.encode()).hexdigest()[:15], 16)
    identifier = f"{key.timestamp_ms:020d}{stream:018d}{key.segment:08d}{key.line:010d}"
    return {"logStreamName": key.stream, "eventId": identifier, **_shown(line)}
