"""What becomes of a wish for a network policy on machines that can and cannot."""

from dataclasses import dataclass

import pytest

from remora.node.networks import choose_network
from remora.node.settings import NodeError
from remora.sandbox.process import ProcessDriver


@dataclass
class Machine:
    problems: tuple[str, ...] = ()

    def network_problems(self):
        return self.problems


ABLE, UNABLE = Machine(), Machine(("nft is not installed",))


@pytest.mark.parametrize(
    ("machine", "wanted", "named", "expected"),
    [
        (ABLE, None, (), "nat"),
        (ABLE, "none", (), "none"),
        (ABLE, "host", ("nat",), "host"),
        (UNABLE, None, (), "none"),
        (UNABLE, "none", (), "none"),
        (UNABLE, "host", ("none",), "host"),
    ],
)
def test_nat_if_it_can_be_had_unless_the_operator_wants_something_else(machine, wanted, named, expected):
    network, missing = choose_network(machine, wanted, named)
    assert network == expected
    assert any("nft is not installed" in text for text in missing) == (machine is UNABLE and wanted is None)


@pytest.mark.parametrize(("wanted", "named"), [("nat", ()), (None, ("nat",)), ("none", ("nat",))])
def test_what_was_asked_for_and_cannot_be_had_is_an_error(wanted, named):
    with pytest.raises(NodeError, match="nft is not installed") as refused:
        choose_network(UNABLE, wanted, named)
    assert "remora doctor" in refused.value.hint


def test_without_isolation_there_is_only_the_network_of_the_host(tmp_path):
    assert choose_network(ProcessDriver(tmp_path, "n"), None) == ("host", ())
