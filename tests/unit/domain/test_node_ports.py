from __future__ import annotations

import pytest

from volatile_rse.api.conditions import Reason
from volatile_rse.domain.node_ports import DEFAULT_RANGE, NodePorts, problem_of_node_ports


@pytest.mark.parametrize(
    ("range_", "buffers", "used", "left", "low"),
    [
        (2768, 0, 0, 2768, False),
        (2768, 1245, 2490, 278, False),
        (2768, 1246, 2492, 276, True),
        (2768, 1384, 2768, 0, True),
        # The range is greater than an admin has said.
        (2768, 1400, 2800, 0, True),
        (20, 9, 18, 2, False),
        (21, 10, 20, 1, True),
        (2, 0, 0, 2, False),
        (2, 1, 2, 0, True),
    ],
)
def test_less_than_a_tenth_left_is_told(range_: int, buffers: int, used: int, left: int, *, low: bool) -> None:
    ports = NodePorts(range_, buffers)
    assert (ports.used, ports.left) == (used, left)
    assert (problem_of_node_ports(ports) is not None) is low


def test_the_warning_says_how_many_are_left_and_who_has_the_others() -> None:
    problem = problem_of_node_ports(NodePorts(DEFAULT_RANGE, 1300, 200))
    assert problem is not None
    assert problem.reason is Reason.NODE_PORTS_LOW
    for said in (
        "1300 buffers have 2600 of 2768",
        "200 of them are over",
        "168 ports are left, for 84 more",
    ):
        assert said in problem.message
    assert "until it is drained" in problem.message
    assert "ADMIN must act" in problem.message
