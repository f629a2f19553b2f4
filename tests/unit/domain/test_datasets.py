from __future__ import annotations

from dataclasses import replace

import pytest

from volatile_rse.api.conditions import Reason
from volatile_rse.api.volatilerse import Output
from volatile_rse.domain.catalogue import DatasetState
from volatile_rse.domain.problems import problem_of_dataset

OPEN = DatasetState("alice", is_dataset=True, open=True)


def output(if_exists: str = "Append") -> Output:
    return Output.model_validate(
        {
            "name": "o",
            "path": "**",
            "scope": "cms",
            "dataset": "d",
            "ifExists": if_exists,
            "destination": {"rseExpression": "X"},
        }
    )


@pytest.mark.parametrize(
    ("known", "if_exists", "said"),
    [
        (DatasetState("alice", is_dataset=False, open=False), "Append", "is no dataset"),
        (DatasetState("alice", is_dataset=True, open=False), "Append", "is closed"),
        (DatasetState("bob", is_dataset=True, open=True), "Append", "belongs to account 'bob', not to 'alice'"),
        (OPEN, "Fail", "exists, and ifExists is Fail"),
        (replace(OPEN, maker="another"), "Fail", "exists, and ifExists is Fail"),
    ],
)
def test_a_dataset_that_cannot_take_outputs_is_refused_before_anything_happens(
    known: DatasetState, if_exists: str, said: str
) -> None:
    problem = problem_of_dataset(output(if_exists), "alice", "mine", known)
    assert problem is not None
    assert problem.reason is Reason.DATASET_REFUSED
    assert f"spec.outputs[o]: cms:d {said}" in problem.message
    assert "USER must act" in problem.message


def test_a_new_dataset_and_one_s_own_open_one_are_taken() -> None:
    assert problem_of_dataset(output("Fail"), "alice", "mine", None) is None
    assert problem_of_dataset(output("Fail"), "alice", "mine", replace(OPEN, maker="mine")) is None
    assert problem_of_dataset(output(), "alice", "mine", OPEN) is None
