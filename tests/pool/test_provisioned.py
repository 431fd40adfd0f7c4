"""Provisioned and reserved concurrency over scripted environments."""

import asyncio
import json

import pytest

from remora.pool.base import Throttled
from remora.pool.provisioning import Provisioning
from remora.telemetry.metrics import Subject
from remora.testing.stage import ARN

KEY = f"{ARN}:live"


def kind(actor):
    """Return how the environment came to be, as JSON."""
    return json.dumps(actor.plan.env["AWS_LAMBDA_INITIALIZATION_TYPE"]).encode()


async def tell(actor):
    await actor.serve(lambda _: kind(actor))


def once(leave):
    """Make a runtime that answers when `leave` is set."""

    async def runtime(actor):
        while True:
            event = await actor.next()
            await leave.wait()
            await actor.respond(event.headers["lambda-runtime-aws-request-id"], kind(actor))

    return runtime


async def until(is_true):
    """Wait for what happens without telling anybody; the stage's own deadline ends it."""
    while not is_true():  # noqa: ASYNC110 - any change may be waited for
        await asyncio.sleep(0.001)


async def states(it, *wanted):
    """Wait until the environments are in these states."""
    await until(lambda: sorted(each["state"] for each in it.pool.environments()) == sorted(wanted))


async def ready(provisioning, allocated):
    await until(lambda: provisioning.status(KEY).allocated == allocated)


def peak(it, name, function="f"):
    found = it.meters.metrics.read(name, Subject(function), 0, 2**40, 60)
    return max((summary.greatest for _, summary in found), default=None)


def total(it, name):
    return sum(summary.total for _, summary in it.meters.metrics.read(name, Subject("f"), 0, 2**40, 60))


@pytest.mark.case("MB-34")
def test_environments_are_initialised_ahead_and_what_is_beyond_spills_over(stage, run):
    async def scenario():
        leave = asyncio.Event()
        async with stage({"runtime": once(leave)}) as it:
            provisioning = Provisioning(it.pool)
            provisioning.want(KEY, ARN, 2)
            provisioning.run(KEY, it.deployment)
            assert provisioning.status(KEY) == ("IN_PROGRESS", 0, 0, None)
            await ready(provisioning, 2)
            assert provisioning.status(KEY) == ("READY", 2, 2, None)
            calls = [asyncio.ensure_future(it.invoke()) for _ in range(3)]
            await it.marked("invoke.started", number=2)
            leave.set()
            answers = [json.loads(answer.payload) for answer in await asyncio.gather(*calls)]
            assert sorted(answers) == ["on-demand", "provisioned-concurrency", "provisioned-concurrency"]
            assert peak(it, "ProvisionedConcurrentExecutions") == 2
            assert peak(it, "ProvisionedConcurrencyUtilization") == 10_000
            assert total(it, "ProvisionedConcurrencyInvocations") == 2
            assert total(it, "ProvisionedConcurrencySpilloverInvocations") == 1
            assert peak(it, "ClaimedAccountConcurrency", "") == 3
            await states(it, "idle", "idle", "idle")
            provisioning.unwant(KEY)
            assert provisioning.status(KEY) is None
            await states(it, "idle")

    run(scenario())


def test_an_init_that_fails_fails_the_target(stage, run):
    async def scenario():
        async def runtime(actor):
            actor.exit(1)

        async with stage({"runtime": runtime}) as it:
            provisioning = Provisioning(it.pool)
            provisioning.want(KEY, ARN, 1)
            provisioning.run(KEY, it.deployment)
            await until(lambda: provisioning.status(KEY).status != "IN_PROGRESS")
            assert provisioning.status(KEY) == ("FAILED", 0, 0, "FUNCTION_ERROR_INIT_FAILURE")

    run(scenario())


def test_who_waits_for_a_status_is_told_of_it(stage, run):
    async def scenario(runtime, expected):
        async with stage({"runtime": runtime}) as it:
            changed = asyncio.Event()
            provisioning = Provisioning(it.pool, changed.set)
            provisioning.want(KEY, ARN, 1)
            provisioning.run(KEY, it.deployment)
            while provisioning.status(KEY).status == "IN_PROGRESS":
                await changed.wait()
                changed.clear()
            assert provisioning.status(KEY).status == expected
            changed.clear()
            provisioning.fail(KEY, "whatever")
            assert changed.is_set()

    async def crash(actor):
        actor.exit(1)

    run(scenario(tell, "READY"))
    run(scenario(crash, "FAILED"))


def test_an_environment_that_is_lost_is_replaced(stage, run):
    async def scenario():
        async with stage({"runtime": tell}) as it:
            provisioning = Provisioning(it.pool)
            provisioning.want(KEY, ARN, 1)
            provisioning.run(KEY, it.deployment)
            await ready(provisioning, 1)
            (member,) = it.pool._members.values()
            member.environment.sandbox_lost("somebody killed it")
            await until(lambda: member.environment.identifier not in it.pool._members)
            await ready(provisioning, 1)
            assert (await it.invoke()).payload == b'"provisioned-concurrency"'

    run(scenario())


def test_all_that_is_reserved_is_provisioned_so_nothing_spills_over(stage, run):
    async def scenario():
        leave = asyncio.Event()
        async with stage({"runtime": once(leave)}) as it:
            it.pool.reserve(ARN, 1)
            provisioning = Provisioning(it.pool)
            provisioning.want(KEY, ARN, 1)
            provisioning.run(KEY, it.deployment)
            await ready(provisioning, 1)
            running = asyncio.ensure_future(it.invoke())
            await it.marked("invoke.started")
            with pytest.raises(Throttled, match="ReservedFunctionConcurrentInvocationLimitExceeded"):
                await it.invoke()
            leave.set()
            assert (await running).payload == b'"provisioned-concurrency"'

    run(scenario())


def test_nothing_reserved_means_never(stage, run):
    async def scenario():
        async with stage({"runtime": tell}) as it:
            it.pool.reserve(ARN, 0)
            with pytest.raises(Throttled, match="ReservedFunctionConcurrentInvocationLimitExceeded"):
                await it.invoke()
            assert repr(it.pool) == "<Pool 0 environments, 0 in flight>"
            it.pool.reserve(ARN, None)
            assert (await it.invoke()).payload == b'"on-demand"'

    run(scenario())


def test_an_environment_that_is_old_enough_goes_after_its_invocation(stage, run):
    async def scenario():
        async with stage({"runtime": tell}, settings={"lifetime_s": 0.0}) as it:
            await it.invoke()
            await states(it)

    run(scenario())


def test_idle_environments_make_room_when_memory_is_short(stage, run):
    async def scenario():
        async with stage({"runtime": tell}) as it:
            await it.invoke()
            await states(it, "idle")
            (first,) = it.pool.environments()
            it.pool._supply._memory_left = lambda: 0
            provisioning = Provisioning(it.pool)
            provisioning.want(KEY, ARN, 1)
            provisioning.run(KEY, it.deployment)
            await ready(provisioning, 1)
            await states(it, "idle")
            assert it.pool.environments()[0]["id"] != first["id"]

    run(scenario())


def test_idle_environments_go_when_somebody_waits_for_memory(stage, run):
    async def scenario():
        async with stage({"runtime": tell}) as it:
            await it.invoke()
            await states(it, "idle")
            it.pool.relieve()
            await states(it, "idle")
            it.pool._supply._memory_left = lambda: 0
            it.pool.relieve()
            await states(it)

    run(scenario())
