from __future__ import annotations

import pytest

from volatile_rse.api.conditions import Reason
from volatile_rse.api.volatilerse import Destination, Output
from volatile_rse.domain.catalogue import Room
from volatile_rse.domain.destinations import Need, full, preferred, problem_of_choice, tight

ANY, LIMIT = Room(None), "the limit of account 'alice' there"


def output(copies: int = 1) -> Output:
    destination = Destination(rse_expression="tier=2", copies=copies)
    return Output(name="kept", path="kept/**", scope="user.alice", dataset="out", destination=destination)


@pytest.mark.parametrize(
    ("rooms", "need", "chosen", "of_less"),
    [
        pytest.param({"B": ANY, "A": ANY}, Need(10), ["A", "B"], [], id="in their order"),
        pytest.param({"A": Room(0, LIMIT), "B": ANY}, Need(10), ["B"], ["A"], id="no quota left"),
        pytest.param(
            {"A": Room(5, LIMIT), "B": Room(11, LIMIT)}, Need(10), ["B", "A"], ["A"], id="the roomy one first"
        ),
        pytest.param({"A": Room(10, LIMIT)}, Need(10), ["A"], ["A"], id="Rucio wants more than there will be"),
        pytest.param({"A": ANY, "B": Room(5, LIMIT)}, Need(10, 99, frozenset("B")), ["B", "A"], ["B"], id="held first"),
        pytest.param({"A": Room(99, LIMIT)}, Need(10, 99), [], ["A"], id="no room for what the dataset has already"),
        pytest.param({"A": Room(109, LIMIT)}, Need(10, 99), ["A"], ["A"], id="not quite for both"),
        pytest.param({"A": Room(110, LIMIT)}, Need(10, 99), ["A"], [], id="for both"),
        pytest.param({"A": Room(1, LIMIT)}, Need(0), ["A"], [], id="a session that writes nothing"),
    ],
)
def test_where_outputs_may_go(rooms: dict[str, Room], need: Need, chosen: list[str], of_less: list[str]) -> None:
    assert preferred(rooms, need) == chosen
    assert set(full(rooms, need)) == set(rooms) - set(chosen)
    assert [rse for rse, room in rooms.items() if tight(room, need, rse)] == of_less


def test_what_the_dataset_has_already_is_told() -> None:
    assert full({"A": Room(5, LIMIT)}, Need(1, 9)) == {
        "A": f"5 bytes are left by {LIMIT}, and the dataset has 9 already"
    }


def test_an_output_without_a_destination_names_each_rse_and_why() -> None:
    why = {"TAPE": "it is TAPE", "FULL": "0 bytes are left by x"}
    problem = problem_of_choice(output(copies=2), 3, why, ["FULL"])
    assert problem.reason is Reason.QUOTA_EXCEEDED, "with quota it would do"
    assert problem.what == (
        "spec.outputs[kept].destination: 2 copies are asked for, and of 3 RSEs of 'tier=2' 1 can keep them. "
        "FULL: 0 bytes are left by x; TAPE: it is TAPE."
    )
    assert problem_of_choice(output(copies=3), 3, why, ["FULL"]).reason is Reason.NO_DESTINATION


def test_of_many_rses_some_are_named() -> None:
    why = {f"RSE-{number:03}": "it is the buffer of a session" for number in range(300)}
    what = problem_of_choice(output(), 300, why, []).what
    assert "RSE-004: it is the buffer of a session; and 295 more." in what
    assert len(what) < 500
