"""
The pool: which environment serves which invocation.

Environments of one deployment form a group. The one that became idle last is used first, so that the others
grow old and can be shut down. An invocation without an idle environment waits, and one more is made: a few
at a time, functions in turn. Decisions are pure (`assign`, `ledger`, `starts`); here they are carried out.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from remora.environment.base import InvokeResult
from remora.kit.alarms import Alarm
from remora.kit.ids import new_trace_id, new_uuid
from remora.lifecycle.messages import Reason
from remora.pool.assign import Counts, Verdict, assign
from remora.pool.base import PoolError, Throttled
from remora.pool.group import Group, Member, MemberState, Order, Provisioned, Waiting, describe
from remora.pool.ledger import Ledger
from remora.pool.making import Maker
from remora.pool.memory import MIB, memory_left
from remora.pool.metering import count_provisioned, count_shares
from remora.pool.provisioning import may_serve
from remora.pool.snapshots import Replay, Snapshots
from remora.pool.supply import Supply
from remora.resources import lineage
from remora.telemetry.meter import Meters

if TYPE_CHECKING:
    from collections.abc import Callable

    from remora.environment.base import Deployment, InvokeRequest
    from remora.environment.environment import Environment
    from remora.kit.clock import Clock
    from remora.kit.tasks import TaskSet
    from remora.pool.base import Answer
    from remora.pool.settings import PoolSettings
    from remora.pool.snapshots import Copying
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
        memory_left: Tells how much memory the machine has left, bytes.
        copying: Copies environments for SnapStart; if nobody does, they are initialised again.
        no_snapshots: Why nobody does.
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
        memory_left: Callable[[], int] = memory_left,
        copying: Copying | None = None,
        no_snapshots: str = "",
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._tasks = tasks
        self._meters = meters or Meters(clock)
        maker = Maker(driver, settings, clock=clock, logs=logs, timelines=timelines, meters=self._meters)
        self.snapshots = Snapshots(maker, copying or Replay(maker, no_snapshots), settings, clock)
        """Takes snapshots of environments that are not the pool's own."""
        self._supply = Supply(
            maker,
            settings,
            self,
            clock=clock,
            tasks=tasks,
            memory_left=memory_left,
            snapshots=self.snapshots,
        )
        self._ledger = Ledger(settings.concurrency)
        self._groups: dict[str, Group] = {}
        self._members = self._supply.members
        self.relieve = self._supply.relieve
        """Called when memory is short: gives up environments that are idle."""
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
        group = self._groups.get(deployment.key) or self._add_group(deployment)
        share = group.load.share
        limit = share.limit
        if share.promised:
            limit = share.limit_for(deployment.function.arn, self._clock.monotonic_us())
        verdict = assign(
            Counts(
                ready=len(group.ready),
                idle=len(group.idle),
                starting=group.starting,
                finishing=group.finishing if limit == share.limit else 0,  # what gets free is promised
                waiting=len(group.waiting),
                in_flight=share.in_flight,
                limit=limit,
            )
        )
        if verdict is Verdict.REFUSE:
            group.load.refused(self._clock.monotonic_us())
            raise self._throttled(group, request, share.reason)
        if verdict is Verdict.START and (wait_us := group.load.scale_out.take(self._clock.monotonic_us())):
            raise self._throttled(group, request, share.rate_reason, wait_us)
        group.is_retired = False
        self._in_flight += 1
        now_ms = self._clock.wall_ms()
        self._meters.entered(deployment.function.name, request.invoked_arn, now_ms)
        if not request.trace_id:
            trace_id = f"{new_trace_id(now_ms)};{lineage.first(deployment.function.arn)}"
            request = msgspec.structs.replace(request, trace_id=trace_id)
        waiting = Waiting(request.request_id or new_uuid(), request, answer)
        if verdict is Verdict.PROVISIONED:
            self._run(group.ready.pop(), waiting)
            return
        group.load.enter()
        if self._ledger.set_aside:
            count_shares(self._meters, self._ledger, request.invoked_arn)
        if verdict is Verdict.REUSE:
            self._run(group.idle.pop(), waiting)
            return
        group.waiting.append(waiting)
        if verdict is Verdict.START:
            self._supply.order(group)
        elif verdict is Verdict.LINGER:
            loop = asyncio.get_running_loop()
            waiting.lingering = loop.call_later(self._settings.linger_s, self._lingered, group, waiting)

    def _add_group(self, deployment: Deployment) -> Group:
        load = self._ledger.load(deployment.function.arn, self._clock.monotonic_us())
        load.groups += 1
        group = self._groups[deployment.key] = Group(deployment, load)
        return group

    def _forget_if_empty(self, group: Group) -> None:
        deployment = group.deployment
        if group.is_empty and self._groups.get(deployment.key) is group:
            del self._groups[deployment.key]
            group.load.groups -= 1
            self._ledger.forget(deployment.function.arn)

    def _throttled(self, group: Group, request: InvokeRequest, reason: str, wait_us: int = 0) -> Throttled:
        """Count a refusal and return it; there is room again after `wait_us`, as far as that is known."""
        function = group.deployment.function
        self._meters.throttled(function.name, function.version, request.invoked_arn)
        self._forget_if_empty(group)
        return Throttled(reason, max(1, -(-wait_us // 1_000_000)))

    def _run(self, member: Member, waiting: Waiting) -> None:
        if member.retirement is not None:
            member.retirement.cancel()
        if waiting.lingering is not None:
            waiting.lingering.cancel()
        member.state = MemberState.BUSY
        group = member.group
        if member.provisioned is not None:
            group.load.enter_provisioned()
        if group.provisioned:
            count_provisioned(self._meters, self._ledger, member, waiting.request.invoked_arn)
        answer = waiting.answer

        def answered(result: InvokeResult) -> None:
            if member.state is MemberState.BUSY:  # else it was stopped, and counts no more
                member.state = MemberState.FINISHING
                group.finishing += 1
            answer(result)

        member.environment.invoke(waiting.request_id, waiting.request, answered)

    # --- what the operator and the API decide -------------------------------------------------------------

    def reserve(self, function_arn: str, count: int | None) -> None:
        """
        Reserve concurrency for a function: it is kept for it, and not exceeded by it.

        Args:
            function_arn: Unqualified ARN.
            count: Concurrent executions, >= 0; None takes the reservation back.
        """
        self._ledger.reserve(function_arn, count, self._clock.monotonic_us())

    def concurrency(self, function_arn: str) -> int:
        """Return how many invocations of a function there may be at once, provisioned ones included."""
        load = self._ledger.load(function_arn, self._clock.monotonic_us())
        return load.share.limit + load.provisioned

    def set_aside(self, function_arn: str, count: int) -> None:
        """Set concurrency aside for all provisioned environments of a function together."""
        self._ledger.provision(function_arn, count, self._clock.monotonic_us())

    def begin_provisioned(self, deployment: Deployment, provisioned: Provisioned) -> None:
        """
        Begin to make one environment ahead of any invocation; it is there until it is released.

        Its init may take as long as provisioned concurrency allows, and is not repeated.

        Args:
            deployment: What it runs.
            provisioned: Is told what becomes of it.

        Raises:
            PoolError: If the node is shutting down; nobody is told then.
        """
        if self._is_closing:
            raise PoolError("the node is shutting down")
        group = self._groups.get(deployment.key) or self._add_group(deployment)
        self._supply.order(group, provisioned)

    def release(self, provisioned: Provisioned) -> None:
        """Let go of a provisioned environment: it ends as soon as it is idle. Repeated calls: no effect."""
        provisioned.is_unwanted = True
        member = provisioned.member
        if member is not None and member.state in (MemberState.IDLE, MemberState.STARTING):
            self._stop(member)

    # --- environments -------------------------------------------------------------------------------------

    def is_needed(self, order: Order) -> bool:
        """Tell whether an environment is still needed whose turn to be made has come."""
        if order.provisioned is not None:
            return not order.provisioned.is_unwanted
        return order.group.starting <= len(order.group.waiting)

    def dropped(self, order: Order) -> None:
        """An environment is not made after all."""
        group = order.group
        if order.provisioned is None:
            group.starting -= 1
        else:
            group.provisioned -= 1
            order.provisioned.lose(PoolError("the environment is not wanted any more"))
        self._forget_if_empty(group)

    def not_made(self, member: Member, message: str) -> None:
        """The sandbox of an environment could not be made."""
        self._fail(member, message)
        self._begin_removal(member)

    def make_room(self, shortage_bytes: int) -> None:
        """Shut idle environments down until so much memory is given back, the longest idle first."""
        idle = [member for group in self._groups.values() for member in group.idle]
        idle.sort(key=lambda member: member.idle_since_us)
        for member in idle:
            if shortage_bytes <= 0:
                return
            shortage_bytes -= max(MIB, member.environment.memory_peak_bytes())
            self._stop(member)

    def environment_available(self, environment: Environment) -> None:
        """Give it the next invocation, or let it be idle."""
        member = self._members[environment.identifier]
        group, provisioned = member.group, member.provisioned
        if member.state is MemberState.STOPPING:
            return
        self._uncount(member)
        if provisioned is not None and not may_serve(provisioned, environment):
            self._stop(member)
            return
        if group.waiting:
            if provisioned is not None:
                group.load.leave()  # it found room that was set aside
            self._run(member, group.waiting.popleft())
            return
        member.state = MemberState.IDLE
        now_us = member.idle_since_us = self._clock.monotonic_us()
        is_over = group.is_retired and provisioned is None
        if is_over or self._is_closing or now_us >= member.expires_us:
            self._stop(member)
            return
        if provisioned is not None:
            group.ready.append(member)
            return
        group.idle.append(member)
        if member.retirement is None:
            member.retirement = Alarm(asyncio.get_running_loop(), partial(self._stop, member))
        member.retirement.set_in(self._settings.idle_s)

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
        if member.provisioned is not None:
            self._fail(member, "the environment was shut down before it was initialised")
        try:
            await environment.close()
        finally:
            group = member.group
            del self._members[environment.identifier], group.members[environment.identifier]
            if member.provisioned is not None:
                group.provisioned -= 1
            self._forget_if_empty(group)
            self._changed.set()
            self._start_missing(group)

    def _lingered(self, group: Group, waiting: Waiting) -> None:
        if waiting not in group.waiting:
            return
        share, wait_us = group.load.share, 0
        reason = share.reason
        is_refused = share.in_flight > share.limit
        if not is_refused and group.starting < len(group.waiting):
            wait_us = group.load.scale_out.take(self._clock.monotonic_us())
            reason, is_refused = share.rate_reason, wait_us > 0
        if is_refused:
            group.waiting.remove(waiting)
            self._left_on_demand(group)
            waiting.answer(self._throttled(group, waiting.request, reason, wait_us))
        else:
            self._start_missing(group)

    def _start_missing(self, group: Group) -> None:
        """Make environments for invocations that wait and have none under way."""
        while group.starting < len(group.waiting) and not self._is_closing:
            self._supply.order(group)

    def _uncount(self, member: Member) -> None:
        """Take back what the member counted for until now."""
        if member.state is MemberState.STARTING:
            if member.provisioned is None:
                member.group.starting -= 1
            member.state = MemberState.IDLE
            self._supply.free_slot(member)
        elif member.state in (MemberState.BUSY, MemberState.FINISHING):
            if member.provisioned is None:
                self._left_on_demand(member.group)
            else:
                member.group.load.leave_provisioned()
                self._left(member.group)
            if member.state is MemberState.FINISHING:
                member.group.finishing -= 1
            member.state = MemberState.IDLE

    def _left_on_demand(self, group: Group) -> None:
        group.load.leave()
        self._left(group)

    def _left(self, group: Group) -> None:
        """An invocation is over, whatever came of it."""
        self._in_flight -= 1
        self._meters.left(group.deployment.function.name)
        if self._is_closing:
            self._changed.set()

    def _leave_idle(self, member: Member) -> None:
        if member.retirement is not None:
            member.retirement.close()
        for available in (member.group.idle, member.group.ready):
            if member in available:
                available.remove(member)

    def _stop(self, member: Member) -> None:
        self._leave_idle(member)
        self._uncount(member)
        member.state = MemberState.STOPPING
        member.environment.stop(Reason.SPINDOWN)

    def _fail(self, member: Member, message: str) -> None:
        """Tell who depends on an environment that there will be none."""
        provisioned = member.provisioned
        if provisioned is None:
            error = self.snapshots.take_error(member.environment)
            self._fail_one(member.group, error or PoolError(message))
        else:
            provisioned.lose(None if provisioned.is_ready else PoolError(message))

    def _fail_one(self, group: Group, error: PoolError) -> None:
        if group.waiting:
            waiting = group.waiting.popleft()
            self._left_on_demand(group)
            waiting.answer(error)

    def retire(self, function_arn: str, version: str | None = None) -> None:
        """
        Shut down the environments of a function as they become idle; provisioned ones only with all others.

        Args:
            function_arn: Unqualified ARN.
            version: `$LATEST` or a number; None for all: the function is gone.
        """
        for group in self._groups.values():
            function = group.deployment.function
            if function.arn == function_arn and version in {None, function.version}:
                group.is_retired = True
                for member in (*group.idle, *(() if version else group.ready)):
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
        self._supply.clear()
        for group in tuple(self._groups.values()):
            while group.waiting:
                self._fail_one(group, PoolError("the node is shutting down"))
            for member in (*group.idle, *group.ready):
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
