"""Operations on stacks: order, rollback, replacement, and a kill of the node at every step."""

from __future__ import annotations

import asyncio

import pytest
from tests.iac.world import Memory, Thing, World, program, ref, thing

from remora.control.services.neighbour import ServiceError
from remora.iac import engine
from remora.store.base import StoreError

THREE = program(A=thing(Size=1), B=thing("A", Of=ref("A")), C=thing("B", Size=3))


def run(scenario):
    asyncio.run(scenario())


async def made(*, wanted=THREE, **members):
    world = await World().open()
    await world.create(wanted, **members)
    return world


def test_a_stack_is_made_in_the_order_of_its_dependencies():
    async def scenario():
        world = await made(
            wanted=program({"Out": ref("B")}, C=thing("B"), B=thing("A", Of=ref("A")), A=thing())
        )
        assert world.stack.status == "CREATE_COMPLETE"
        assert world.things.log == ["create A", "create B", "create C"]
        assert world.resources["B"].body.properties["Of"] == world.resources["A"].body.physical_id
        assert world.stack.wanted.outputs[0].value == world.resources["B"].body.physical_id
        assert world.events()[0] == ("s", "CREATE_IN_PROGRESS")
        assert world.events()[-1] == ("s", "CREATE_COMPLETE")
        assert ("A", "CREATE_IN_PROGRESS") in world.events()
        moments = [each.wall_ms for each in world.state.view.stack_events[world.stack.stack_id].values()]
        assert moments == sorted(set(moments)), "events of one stack differ in time"
        world.check()

    run(scenario)


def test_what_depends_on_nothing_is_made_side_by_side():
    async def scenario():
        world = await World().open()
        world.things.gates = {name: asyncio.Event() for name in "AB"}
        making = asyncio.ensure_future(world.create(program(A=thing(), B=thing())))
        await asyncio.gather(*(world.things.begun[f"create {name}"].wait() for name in "AB"))
        for gate in world.things.gates.values():
            gate.set()
        await making
        assert world.stack.status == "CREATE_COMPLETE"

    run(scenario)


def test_a_creation_that_fails_is_undone():
    async def scenario():
        world = await World().open()
        world.things.fails = {("create", "C")}
        await world.create(THREE)
        assert world.stack.status == "ROLLBACK_COMPLETE"
        assert world.things.world == {}
        assert world.things.log[-2:] == ["delete B", "delete A"]
        failed = list(world.state.view.stack_events[world.stack.stack_id].values())
        assert [event.reason for event in failed if event.status == "CREATE_FAILED"] == ["no create"]
        reasons = [event.reason for event in failed if event.status == "ROLLBACK_IN_PROGRESS"]
        assert reasons == ["The following resource(s) failed to create: [C]. Rollback requested by user."]
        with pytest.raises(ServiceError, match="ROLLBACK_COMPLETE state and can not be updated"):
            await world.update(THREE)
        await world.delete()
        assert world.stack.is_deleted

    run(scenario)


@pytest.mark.parametrize(
    ("on_failure", "status", "left"),
    [("DO_NOTHING", "CREATE_FAILED", 2), ("DELETE", "DELETE_COMPLETE", 0)],
)
def test_a_creation_that_fails_ends_as_it_was_asked_to(on_failure, status, left):
    async def scenario():
        world = await World().open()
        world.things.fails = {("create", "C")}
        await world.create(THREE, on_failure=on_failure)
        assert (world.stack.status, len(world.things.world)) == (status, left)

    run(scenario)


def test_something_of_others_is_not_deleted_by_an_undoing():
    async def scenario():
        world = await World().open()
        world.things.world["mine"] = {"Size": 7}
        await world.create(program(A=thing(), B=thing("A", Name="mine")))
        assert world.stack.status == "ROLLBACK_COMPLETE"
        assert world.things.world == {"mine": {"Size": 7}}

    run(scenario)


def test_an_update_changes_replaces_adds_and_removes():
    async def scenario():
        world = await made()
        old = {name: each.body.physical_id for name, each in world.resources.items()}
        world.things.log.clear()
        await world.update(
            program(A=thing(Size=2), B=thing("A", Of=ref("A"), Kind="x"), D=thing("B", Of=ref("B")))
        )
        now = {name: each.body.physical_id for name, each in world.resources.items()}
        assert world.stack.status == "UPDATE_COMPLETE"
        assert set(now) == {"A", "B", "D"}
        assert now["A"] == old["A"]
        assert now["B"] != old["B"]
        assert world.things.world[now["D"]]["Of"] == now["B"]
        assert world.things.log == ["update A", "create B", "create D", "delete C", "delete B"]
        assert ("s", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS") in world.events()
        world.check()

    run(scenario)


def test_an_update_that_fails_is_undone():
    async def scenario():
        world = await made()
        before = {name: dict(each) for name, each in world.things.world.items()}
        world.things.fails = {("create", "D")}
        wanted = program(A=thing(Size=2), B=thing("A", Of=ref("A"), Kind="x"), D=thing("B"), E=thing())
        await world.update(wanted)
        assert world.stack.status == "UPDATE_ROLLBACK_COMPLETE"
        assert world.things.world == before
        assert set(world.resources) == {"A", "B", "C"}
        world.check()
        world.things.fails = set()
        await world.update(wanted)
        assert world.stack.status == "UPDATE_COMPLETE"
        world.check()

    run(scenario)


def test_an_update_without_rollback_goes_on_from_where_it_failed():
    async def scenario():
        world = await made()
        world.things.fails = {("create", "D")}
        await world.update(
            program(A=thing(Size=2), B=thing("A", Kind="x"), D=thing("B")), on_failure="DO_NOTHING"
        )
        assert world.stack.status == "UPDATE_FAILED"
        world.things.fails = set()
        await world.update(program(A=thing(Size=3), B=thing("A", Kind="y"), D=thing("B")))
        assert world.stack.status == "UPDATE_COMPLETE"
        world.check()

    run(scenario)


def test_an_undoing_that_fails_can_be_gone_on_with():
    async def scenario():
        world = await made()
        before = {name: dict(each) for name, each in world.things.world.items()}
        world.things.fails = {("update", "A")}
        await world.update(program(A=thing(Size=2)))
        assert world.stack.status == "UPDATE_ROLLBACK_FAILED"
        world.things.fails = set()
        await world.engine.roll_back("s", None, (), "")
        await world.settle()
        assert world.stack.status == "UPDATE_ROLLBACK_COMPLETE"
        assert world.things.world == before
        world.check()

    run(scenario)


def test_a_name_that_the_template_gives_is_not_replaced_by_itself():
    async def scenario():
        world = await made(wanted=program(A=thing(Name="a", Kind="x")))
        await world.update(program(A=thing(Name="a", Kind="y")))
        assert world.stack.status == "UPDATE_ROLLBACK_COMPLETE"
        events = world.state.view.stack_events[world.stack.stack_id].values()
        assert any("custom-named resource requires replacing. Rename a" in event.reason for event in events)
        world.check()

    run(scenario)


def test_properties_that_are_not_known_or_missing_fail_the_resource():
    async def scenario():
        world = await made(wanted=program(A=thing(Colour="red")))
        assert world.stack.status == "ROLLBACK_COMPLETE"
        events = world.state.view.stack_events[world.stack.stack_id].values()
        assert any("extraneous key [Colour] is not permitted" in event.reason for event in events)

    run(scenario)


def test_what_is_retained_stays():
    async def scenario():
        world = await made(wanted=program(A=thing(policy="Retain"), B=thing()))
        await world.delete()
        assert world.stack.status == "DELETE_COMPLETE"
        assert len(world.things.world) == 1
        assert ("A", "DELETE_SKIPPED") in world.events()

    run(scenario)


def test_a_deletion_that_fails_can_leave_things_behind():
    async def scenario():
        world = await made()
        world.things.fails = {("delete", "A")}
        await world.delete()
        assert world.stack.status == "DELETE_FAILED"
        assert world.stack.reason == "The following resource(s) failed to delete: [A]. "
        await world.delete("A")
        assert world.stack.status == "DELETE_COMPLETE"
        assert len(world.things.world) == 1

    run(scenario)


def test_an_update_can_be_cancelled_and_a_creation_be_deleted():
    async def scenario():
        world = await made()
        gate = world.things.gates["A"] = asyncio.Event()
        updating = asyncio.ensure_future(world.update(program(A=thing(Size=2), B=thing("A", Kind="z"))))
        await world.things.begun["update A"].wait()
        with pytest.raises(ServiceError, match="cannot be deleted while in status UPDATE_IN_PROGRESS"):
            await world.engine.delete("s", (), None, "")
        await world.engine.cancel("s")
        gate.set()
        await updating
        assert world.stack.status == "UPDATE_ROLLBACK_COMPLETE"
        world.check()

        other = await World().open()
        gate = other.things.gates["A"] = asyncio.Event()
        making = asyncio.ensure_future(other.create(THREE))
        await other.things.begun["create A"].wait()
        await other.engine.delete("s", (), None, "")
        gate.set()
        await making
        assert other.stack.status == "DELETE_COMPLETE"
        assert other.things.world == {}

    run(scenario)


UPDATE = program(
    A=thing(Size=2), B=thing("A", Of=ref("A"), Kind="x"), D=thing("B", Of=ref("B")), E=thing(Name="mine")
)


@pytest.mark.parametrize("fails", [frozenset(), frozenset({("create", "D")})], ids=["well", "failing"])
def test_a_kill_of_the_node_at_any_step_leaves_nothing_half_done(fails):
    """Every commit of creation, update and deletion in turn is the last one; the next node goes on."""

    async def live(last):
        things, store = Thing(), Memory()
        store.last = last
        world = await World(things, store).open()
        try:
            await world.create(THREE)
            things.fails = set(fails)
            await world.update(UPDATE)
            await world.delete()
        except BaseException as error:
            if type(error).__name__ != "Killed" and "is in " not in str(error):
                raise
        return things, store

    async def scenario():
        _, store = await live(None)
        total = store.commits
        assert total > 20
        for last in range(1, total):
            things, store = await live(last)
            store.last = None
            things.fails = set()
            world = await World(things, store).open()
            if not world.state.view.stacks:
                continue
            world.engine.resume()
            await world.settle()
            if world.resources.get("E") is None:  # its name is the template's: nobody knows whose it is
                things.world.pop("mine", None)
            try:
                world.check()
            except AssertionError as error:
                raise AssertionError(f"killed after commit {last}: {world.events()}") from error

    run(scenario)


@pytest.mark.parametrize("number", range(2, 16))
def test_an_operation_that_meets_a_full_disk_goes_on_when_there_is_room(number, monkeypatch):
    monkeypatch.setattr(engine, "RETRY_S", 0)

    async def scenario():
        world = await World().open()
        world.things.world["mine"] = {"Size": 7}
        world.store.refused = range(number, number + 3)
        await world.create(THREE)
        assert world.stack.status in {"CREATE_COMPLETE", "ROLLBACK_COMPLETE"}
        assert world.things.world.pop("mine") == {"Size": 7}
        world.check()

    run(scenario)


@pytest.mark.parametrize("number", range(2, 10))
def test_a_stack_that_nobody_goes_on_with_is_deleted_without_what_was_there_before(number):
    async def scenario():
        world = await World().open()
        world.things.world["mine"] = {"Size": 7}
        world.store.error = StoreError("the store is damaged")
        world.store.refused = range(number, number + 1)
        await world.create(program(A=thing(), B=thing("A", Name="mine")))
        await world.delete()
        assert world.stack.is_deleted
        assert world.things.world == {"mine": {"Size": 7}}

    run(scenario)


@pytest.mark.parametrize("number", range(1, 8))
def test_what_a_deletion_is_to_leave_is_left_although_it_is_interrupted(number, monkeypatch):
    monkeypatch.setattr(engine, "RETRY_S", 0)

    async def scenario():
        world = await made()
        kept = world.resources["B"].body.physical_id
        world.things.fails = {("delete", "B")}
        await world.delete()
        assert world.stack.status == "DELETE_FAILED"
        world.things.fails.clear()
        first = world.store.commits + 1
        world.store.refused = range(first + number, first + number + 2)
        await world.delete("B")
        assert world.stack.is_deleted
        assert set(world.things.world) == {kept}

    run(scenario)
