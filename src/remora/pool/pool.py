"""
The pool: which environment serves which invocation.

Environments of one deployment form a group. The one that became idle last is used first, so that the others
grow old and can be shut down. An invocation without an idle environment waits, and one more is made.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from remora.environment.base import InvokeResult
from remora.kit.alarms import Alarm
from remora.kit.ids import new_uuid, random_hex
from remora.lifecycle.messages import Reason
from remora.pool.assign import Counts, Verdict, assign
from remora.pool.base import PoolError, ProvisioningFailed, Throttled
from remora.pool.group import Group, Member, MemberState, Waiting, describe
from remora.pool.making import Maker
from remora.sandbox.base import SandboxError
from remora.telemetry.meter import Meters

if TYPE_CHECKING:
    from collections.abc import Callable

    from remora.environment.base import Deployment, InvokeRequest
    from remora.environment.environment import Environment
    from remora.kit.clock import Clock
    from remora.kit.tasks import TaskSet
    from remora.pool.base import Answer
    from remora.pool.settings import PoolSettings
    from remora.sandbox.base import SandboxDriver
    from remora.telemetry.logs import LogStore
    from remora.telemetry.timeline import Timelines


class Pool:
    """
    All environments of a node.

    Args:
        driver: Makes sandboxes.
        settings: What the operator chose.
        clock: The node's clock.
        logs: Where environments write.
        timelines: Where they mark what happened.
        tasks: Owner of the tasks that make and remove environments.
        meters: What counts; one of its own unless the node wants to read it.
    """

    def __init__(
        self,
        driver: SandboxDriver,
        settings: PoolSettings,
        *,
        clock: Clock,
        logs: LogStore,
        timelines: Timelines,
        tasks: TaskSet,
        meters: Meters | None = None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._tasks = tasks
        self._meters = meters or Meters(clock)
        self._maker = Maker(
            driver, settings, clock=clock, logs=logs, timelines=timelines, meters=self._meters
        )
        self._groups: dict[str, Group] = {}
        self._members: dict[str, Member] = {}
        self._in_flight = 0
        self._changed = asyncio.Event()
        self._is_closing = False

    def __repr__(self) -> str:
        """State how many environments there are, and how many invocations are running or waiting."""
        return f"<Pool {len(self._members)} environments, {self._in_flight} in flight>"

    # --- invocations --------------------------------------------------------------------------------------

    async def invoke(self, deployment: Deployment, request: InvokeRequest) -> InvokeResult:
        """
        Run one invocation and return its answer; function errors are answers, not exceptions.

        Raises:
            Throttled: If the concurrency limit is reached.
            PoolError: If no environment could be made, or the node is shutting down.

        **Cancellation:** the invocation goes on; only its answer is lost.
        """
        answer: asyncio.Future[InvokeResult] = asyncio.get_running_loop().create_future()

        def answered(outcome: InvokeResult | PoolError | Throttled) -> None:
            if not isinstance(outcome, InvokeResult):
                if not answer.done():
                    answer.set_exception(outcome)
            elif not answer.done():
                answer.set_result(outcome)
            elif outcome.stream is not None:
                outcome.stream.abandon()

        self.begin(deployment, request, answered)
        return await answer

    def begin(self, deployment: Deployment, request: InvokeRequest, answer: Answer) -> None:
        """
        Begin one invocation: as `invoke`, without a task that waits.

        Args:
            deployment: What to run.
            request: What to run it with.
            answer: Called exactly once, with the answer or with why there is none, possibly before this
                returns. It must not raise.

        Raises:
            Throttled: If the concurrency limit is reached; `answer` is not called then. (It is called with
                this error if the limit was still reached after a moment in which it might have changed.)
            PoolError: If the node is shutting down; `answer` is not called then.
        """
        if self._is_closing:
            raise PoolError("the node is shutting down")
        group = self._groups.get(deployment.key) or Group(deployment)
        limit = self._settings.concurrency
        verdict = assign(
            Counts(
                idle=len(group.idle),
                starting=group.starting,
                finishing=group.finishing,
                waiting=len(group.waiting),
                in_flight=self._in_flight,
                limit=limit,
            )
        )
        if verdict is Verdict.REFUSE:
            self._meters.throttled(deployment.function.name, deployment.function.version, request.invoked_arn)
            raise Throttled("ConcurrentInvocationLimitExceeded")
        self._groups[deployment.key] = group
        group.is_retired = False
        self._in_flight += 1
        self._meters.entered(deployment.function.name, request.invoked_arn)
        if not request.trace_id:
            request = msgspec.structs.replace(request, trace_id=self._new_trace_id())
        waiting = Waiting(new_uuid(), request, answer)
        if verdict is Verdict.REUSE:
            self._run(group.idle.pop(), waiting)
        else:
            group.waiting.append(waiting)
            if verdict is Verdict.START:
                self._start_member(group)
            elif verdict is Verdict.LINGER:
                loop = asyncio.get_running_loop()
                waiting.lingering = loop.call_later(self._settings.linger_s, self._lingered, group, waiting)

    def _new_trace_id(self) -> str:
        """Return an unsampled trace header, as the service makes one when the caller sent none."""
        seconds = self._clock.wall_ms() // 1000
        return f"Root=1-{seconds:08x}-{random_hex(24)};Parent={random_hex(16)};Sampled=0"

    def _run(self, member: Member, waiting: Waiting) -> None:
        if member.retirement is not None:
            member.retirement.cancel()
        if waiting.lingering is not None:
            waiting.lingering.cancel()
        member.state = MemberState.BUSY
        answer = waiting.answer

        def answered(result: InvokeResult) -> None:
            if member.state is MemberState.BUSY:  # else it was stopped, and counts no more
                member.state = MemberState.FINISHING
                member.group.finishing += 1
            answer(result)

        member.environment.invoke(waiting.request_id, waiting.request, answered)

    async def provision(self, deployment: Deployment) -> None:
        """
        Make one environment ahead of any invocation; it is there until the function is retired.

        Its init may take as long as provisioned concurrency allows, and is not repeated.

        Raises:
            ProvisioningFailed: If its init failed; nothing is left of it.
            PoolError: If no environment could be made, or the node is shutting down.

        **Cancellation:** the environment is made all the same.
        """
        if self._is_closing:
            raise PoolError("the node is shutting down")
        group = self._groups.setdefault(deployment.key, Group(deployment))
        provisioning: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._start_member(group, provisioning)
        await provisioning

    # --- environments -------------------------------------------------------------------------------------

    def _start_member(self, group: Group, provisioning: asyncio.Future[None] | None = None) -> None:
        environment = self._maker.make(group.deployment, self, is_provisioned=provisioning is not None)
        identifier = environment.identifier
        member = Member(environment, group, self._clock.wall_ms(), provisioning=provisioning)
        group.members[identifier] = self._members[identifier] = member
        group.starting += 1
        member.making = self._tasks.spawn(self._start(member), f"start environment {identifier}")

    async def _start(self, member: Member) -> None:
        try:
            await self._maker.start(member.environment)
        except SandboxError as error:
            self._fail(member, f"no environment could be made: {error}")
            self._begin_removal(member)

    def environment_available(self, environment: Environment) -> None:
        """Give it the next invocation, or let it be idle."""
        member = self._members[environment.identifier]
        group = member.group
        if member.state is MemberState.STOPPING:
            return
        self._uncount(member)
        if not self._is_provisioned(member):
            self._stop(member)
            return
        if group.waiting:
            self._run(member, group.waiting.popleft())
            return
        member.state = MemberState.IDLE
        if group.is_retired or self._is_closing:
            self._stop(member)
            return
        group.idle.append(member)
        member.idle_since_us = self._clock.monotonic_us()
        if member.provisioning is None:
            if member.retirement is None:
                member.retirement = Alarm(asyncio.get_running_loop(), partial(self._stop, member))
            member.retirement.set_in(self._settings.idle_s)

    def _is_provisioned(self, member: Member) -> bool:
        """Tell who waits for a provisioned environment; False if its init failed: it must not serve."""
        provisioning = member.provisioning
        if provisioning is None or provisioning.done():
            return True
        if member.environment.machine.is_initialised:
            provisioning.set_result(None)
            return True
        provisioning.set_exception(ProvisioningFailed("FUNCTION_ERROR_INIT_FAILURE"))
        return False

    def environment_closed(self, environment: Environment) -> None:
        """Remove an environment that has ended; one that ended before it could serve fails an invocation."""
        member = self._members[environment.identifier]
        if member.state is MemberState.STARTING:
            self._fail(member, "the environment broke down before it was initialised")
        self._uncount(member)
        self._leave_idle(member)
        member.state = MemberState.STOPPING
        self._begin_removal(member)

    def _begin_removal(self, member: Member) -> None:
        """Remove an environment in the background; one that could not be made may yet be told to stop."""
        if not member.is_leaving:
            member.is_leaving = True
            self._tasks.spawn(self._remove(member), f"remove environment {member.environment.identifier}")

    async def _remove(self, member: Member) -> None:
        environment = member.environment
        self._uncount(member)
        member.state = MemberState.STOPPING
        if member.making is not None and not member.making.done():
            member.making.cancel()
            await asyncio.wait([member.making])
        if member.provisioning is not None:
            self._fail(member, "the environment was shut down before it was initialised")
        try:
            await environment.close()
        finally:
            group = member.group
            del self._members[environment.identifier], group.members[environment.identifier]
            if not group.members and not group.waiting and self._groups.get(group.deployment.key) is group:
                del self._groups[group.deployment.key]
            self._changed.set()
            self._start_missing(group)

    def _lingered(self, group: Group, waiting: Waiting) -> None:
        if waiting not in group.waiting:
            return
        if self._in_flight > self._settings.concurrency:
            group.waiting.remove(waiting)
            self._left(group)
            function = group.deployment.function
            self._meters.throttled(function.name, function.version, waiting.request.invoked_arn)
            waiting.answer(Throttled("ConcurrentInvocationLimitExceeded"))
        else:
            self._start_missing(group)

    def _start_missing(self, group: Group) -> None:
        """Make environments for invocations that wait and have none under way."""
        while group.starting < len(group.waiting) and not self._is_closing:
            self._start_member(group)

    def _uncount(self, member: Member) -> None:
        """Take back what the member counted for until now."""
        if member.state is MemberState.STARTING:
            member.group.starting -= 1
            member.state = MemberState.IDLE
        elif member.state in (MemberState.BUSY, MemberState.FINISHING):
            self._left(member.group)
            if member.state is MemberState.FINISHING:
                member.group.finishing -= 1
            member.state = MemberState.IDLE
            self._changed.set()

    def _left(self, group: Group) -> None:
        """An invocation is over, whatever came of it."""
        self._in_flight -= 1
        self._meters.left(group.deployment.function.name)

    def _leave_idle(self, member: Member) -> None:
        if member.retirement is not None:
            member.retirement.close()
        if member in member.group.idle:
            member.group.idle.remove(member)

    def _stop(self, member: Member) -> None:
        self._leave_idle(member)
        self._uncount(member)
        member.state = MemberState.STOPPING
        member.environment.stop(Reason.SPINDOWN)

    def _fail(self, member: Member, message: str) -> None:
        """Tell who depends on an environment that there will be none."""
        provisioning = member.provisioning
        if provisioning is None:
            self._fail_one(member.group, message)
        elif not provisioning.done():
            provisioning.set_exception(PoolError(message))

    def _fail_one(self, group: Group, message: str) -> None:
        if group.waiting:
            waiting = group.waiting.popleft()
            self._left(group)
            waiting.answer(PoolError(message))

    def retire(self, function_arn: str, version: str | None = None) -> None:
        """Shut down the environments of all deployments of a function, or a version, as they become idle."""
        for group in self._groups.values():
            function = group.deployment.function
            if function.arn == function_arn and version in {None, function.version}:
                group.is_retired = True
                for member in tuple(group.idle):
                    self._stop(member)

    # --- the whole ----------------------------------------------------------------------------------------

    def environments(self) -> list[dict[str, object]]:
        """Return what there is, for people: one JSON object per environment, oldest first."""
        now_us = self._clock.monotonic_us()
        return [describe(member, now_us) for member in self._members.values()]

    async def close(self, *, drain_s: float) -> None:
        """
        Shut every environment down: running invocations are waited for, then extensions hear SHUTDOWN.

        Invocations that still wait for an environment fail.

        Args:
            drain_s: How long running invocations are waited for, seconds.

        **Cancellation:** what is left is removed by the next node with the same data.
        """
        self._is_closing = True
        for group in self._groups.values():
            while group.waiting:
                self._fail_one(group, "the node is shutting down")
            for member in tuple(group.idle):
                self._stop(member)
        with suppress(TimeoutError):
            async with asyncio.timeout(drain_s):
                await self._wait_until(lambda: self._in_flight == 0)
        for member in tuple(self._members.values()):
            if member.state is not MemberState.STOPPING:
                self._stop(member)
        await self._wait_until(lambda: not self._members)

    async def _wait_until(self, is_reached: Callable[[], bool]) -> None:
        while not is_reached():
            self._changed.clear()
            await self._changed.wait()
