"""Registration: who may register when, for what, and how it is refused."""

from __future__ import annotations

import pytest

from remora.lifecycle import messages as m
from remora.testing.story import Story


def loading(*names: str) -> Story:
    """Return the story of an environment whose runtime loads the function."""
    story = Story(*names)
    story.tell(m.Initialise())
    story.starts_extensions("INVOKE")
    story.starts("runtime")
    return story


@pytest.mark.case("EXT-10")
@pytest.mark.case("EXT-12")
def test_an_internal_extension_registers_once() -> None:
    story = loading()
    story.registers("in", "INVOKE")
    assert story.ordered(m.AnswerRegistered)
    story.registers("in", "INVOKE")
    assert story.refusal() == (
        403,
        "Extension.InvalidExtensionState",
        "Extension with this name already registered",
    )


@pytest.mark.case("EXT-11")
def test_an_internal_extension_may_not_ask_for_shutdown() -> None:
    story = loading()
    story.registers("in", "INVOKE", "SHUTDOWN")
    assert story.refusal() == (
        403,
        "Extension.InvalidEventType",
        "SHUTDOWN: ShutdownEventNotSupportedForInternalExtension",
    )
    story.registers("in", "INVOKE")
    assert story.ordered(m.AnswerRegistered)


@pytest.mark.case("EXT-7")
@pytest.mark.case("EXT-8")
@pytest.mark.parametrize("event", ["foo", "invoke", ""])
def test_unknown_events(event: str) -> None:
    story = Story("e")
    story.tell(m.Initialise())
    story.starts("extension:e")
    story.registers("e", "INVOKE", event)
    assert story.refusal() == (403, "Extension.InvalidEventType", f"{event}: ErrorInvalidEventType")
    story.registers("e", "INVOKE")
    assert story.ordered(m.AnswerRegistered)


@pytest.mark.case("EXT-13")
def test_registration_closes_with_the_first_next_of_the_runtime() -> None:
    story = loading()
    story.runtime_next()
    story.registers("in", "INVOKE")
    assert story.refusal() == (
        403,
        "Extension.RegistrationClosed",
        "Extension registration closed already",
    )


@pytest.mark.case("EXT-14")
@pytest.mark.parametrize("externals", [0, 4, 10])
def test_at_most_ten_extensions(externals: int) -> None:
    story = loading(*(f"e{number}" for number in range(externals)))
    for number in range(10 - externals):
        story.registers(f"in{number}")
        assert story.ordered(m.AnswerRegistered)
    # A name that is taken makes no difference.
    for name in ("in0", "new"):
        story.registers(name)
        assert story.refusal() == (403, "Extension.TooManyExtensions", "Extension limit (10) reached")


def test_externals_that_have_not_registered_yet_count() -> None:
    story = Story(*(f"e{number}" for number in range(10)))
    story.tell(m.Initialise())
    story.registers("in")
    assert story.refusal()[1] == "Extension.TooManyExtensions"


def test_events_are_kept_once_each() -> None:
    story = loading()
    story.registers("in", "INVOKE", "INVOKE")
    assert story.extension("in").events == ("INVOKE",)


def test_registration_reopens_after_a_reset() -> None:
    story = loading()
    story.registers("in")
    story.exits("runtime")
    story.registers("late")
    assert story.refusal()[1] == "Extension.RegistrationClosed"
    story.tell(m.Emptied())
    story.registers("in")
    assert story.refusal()[1] == "Extension.RegistrationClosed"
    story.invokes()
    story.starts("runtime")
    story.registers("in")
    assert story.ordered(m.AnswerRegistered)
