from __future__ import annotations

from typing import Any

import pytest

from volatile_rse.api.conditions import Reason
from volatile_rse.api.volatilerse import VolatileRSESpec
from volatile_rse.api.volatilerseclass import VolatileRSEClassSpec
from volatile_rse.domain.problems import Problem, problems_of_inputs, problems_of_request
from volatile_rse.domain.tenants import Namespace

CLASS: dict[str, Any] = VolatileRSEClassSpec.example()
ALICE = Namespace("alice", "u")


def spec(**changes: Any) -> VolatileRSESpec:
    output = {
        "name": "plots",
        "path": changes.pop("path", "plots/**"),
        "scope": changes.pop("scope", "user.alice"),
        "dataset": "plots_v1",
        "destination": {"rseExpression": "SITE-B"},
    }
    return VolatileRSESpec.model_validate(
        {
            "className": "standard",
            "account": "alice",
            "capacity": "1Gi",
            "inputs": [{"name": "in", "did": changes.pop("did", "user.alice:nano")}],
            "outputs": [output],
        }
        | changes
    )


def judge(request: VolatileRSESpec, *, namespace: str = "alice", **class_changes: Any) -> list[Reason]:
    class_ = VolatileRSEClassSpec.model_validate(CLASS | class_changes)
    return [
        problem.reason
        for problem in problems_of_request(Namespace(namespace, "u"), request, class_, connection_exists=True)
    ]


def test_a_good_request_has_no_problem() -> None:
    assert judge(spec()) == []


def test_an_unknown_class_is_the_only_thing_said() -> None:
    (problem,) = problems_of_request(ALICE, spec(path="/etc"), None, connection_exists=False)
    assert problem.reason is Reason.UNKNOWN_CLASS
    assert "'standard'" in problem.message
    assert "USER must act" in problem.message


def test_an_unknown_connection_is_an_admins_task() -> None:
    class_ = VolatileRSEClassSpec.model_validate(CLASS)
    (problem,) = problems_of_request(ALICE, spec(), class_, connection_exists=False)
    assert problem.reason is Reason.UNKNOWN_CONNECTION
    assert "ADMIN must act" in problem.message


def test_an_account_is_granted_to_a_namespace() -> None:
    assert judge(spec(), namespace="bob") == [Reason.ACCOUNT_NOT_GRANTED]
    assert judge(spec(account="bob")) == [Reason.ACCOUNT_NOT_GRANTED]


@pytest.mark.parametrize("change", [{"scope": "cms"}, {"did": "cms:data"}], ids=["output", "input"])
def test_a_scope_that_is_not_granted(change: dict[str, str]) -> None:
    assert judge(spec(**change)) == [Reason.SCOPE_NOT_GRANTED]


def test_two_grants_do_not_add_up_to_a_third() -> None:
    grants = [
        {"namespaces": ["alice"], "accounts": ["alice"], "scopes": ["user.alice"]},
        {"namespaces": ["alice"], "accounts": ["robot"], "scopes": ["cms"]},
    ]
    assert judge(spec(did="cms:data"), tenancy={"grants": grants}) == [Reason.SCOPE_NOT_GRANTED]


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../b", "..", "a/.."])
def test_a_path_that_escapes_the_outbox(path: str) -> None:
    assert judge(spec(path=path)) == [Reason.PATH_ESCAPES_OUTBOX]


@pytest.mark.parametrize("path", ["a..b/*.root", "..a/*", "**/*.root", "with space/*"])
def test_a_path_that_only_looks_so(path: str) -> None:
    assert judge(spec(path=path)) == []


def test_capacity_over_the_limit_of_the_class() -> None:
    assert judge(spec(), maxCapacity="500Mi") == [Reason.CAPACITY_OVER_LIMIT]
    assert judge(spec(), maxCapacity="1Gi") == []


@pytest.mark.parametrize(("max_ttl", "expected"), [("8h", []), ("479m", [Reason.TTL_OVER_LIMIT]), ("30d", [])])
def test_ttl_over_the_limit_of_the_class(max_ttl: str, expected: list[Reason]) -> None:
    assert judge(spec(), maxTtl=max_ttl) == expected


def test_inputs_must_fit() -> None:
    assert problems_of_inputs(spec(), {"in": 1 << 30}, 1 << 30) == ()
    (problem,) = problems_of_inputs(spec(), {"in": 1 << 29, "more": (1 << 29) + 1}, (1 << 30) + 1)
    assert problem.reason is Reason.INPUTS_TOO_LARGE
    assert "in: 536870912, more: 536870913" in problem.message


def test_what_inputs_share_is_counted_once() -> None:
    assert problems_of_inputs(spec(), {"in": 1 << 30, "more": 1 << 29}, 1 << 30) == ()


def test_a_bad_template_of_the_class_is_an_admins_task_and_a_name_that_cms_refuses_a_users() -> None:
    assert judge(spec(), naming={"rse": "VRSE"}) == [Reason.NAMING_INVALID]
    class_ = VolatileRSEClassSpec.model_validate(CLASS | {"naming": {"preset": "cms"}})
    (problem,) = problems_of_request(ALICE, spec(), class_, connection_exists=True)
    assert problem.reason is Reason.NAME_REFUSED
    assert problem.message.startswith("spec.outputs[plots].dataset 'plots_v1' ")
    assert "USER must act" in problem.message


MEMORY: dict[str, object] = {"storage": {"memory": {}}}


@pytest.mark.parametrize(
    ("class_", "asked", "refused"),
    [
        ({}, "Node", False),
        ({}, "Network", True),
        ({}, "Pod", False),
        ({"durability": "Pod"}, "Node", True),
        ({"durability": "Network"}, "Network", False),
        (MEMORY, "Node", True),
        (MEMORY, "Pod", False),
    ],
)
def test_less_durable_storage_than_was_asked_for_is_refused(
    class_: dict[str, Any],
    asked: str,
    refused: bool,  # noqa: FBT001 (a parameter)
) -> None:
    assert judge(spec(minimumDurability=asked), **class_) == ([Reason.DURABILITY_TOO_LOW] if refused else [])


def test_what_is_not_said_is_no_acceptance_of_a_loss_with_the_pod() -> None:
    class_ = VolatileRSEClassSpec.model_validate(CLASS | MEMORY)
    (problem,) = problems_of_request(ALICE, spec(), class_, connection_exists=True)
    assert (
        "spec.minimumDurability is Node, and the storage of class 'standard' outlives its Pod only" in problem.message
    )
    assert "USER must act" in problem.message


@pytest.mark.parametrize("reason", [Reason.CATALOGUE_REFUSED, Reason.CLUSTER_REFUSED])
def test_what_is_refused_for_many_reasons_is_not_always_a_matter_of_rights(reason: Reason) -> None:
    said = Problem(reason, "It is closed.").message
    assert said.startswith("It is closed. ADMIN must act: Mend what the message names: a right")
    assert ", a " in said.removeprefix("It is closed.")


def held(name: str, dataset: str = "plots_v1", **destination: object) -> dict[str, Any]:
    place = {"rseExpression": "SITE-B"} | destination
    return {"name": name, "path": f"{name}/**", "scope": "user.alice", "dataset": dataset, "destination": place}


@pytest.mark.parametrize(
    ("other", "problems"),
    [
        (held("b"), 0),
        (held("b", rseExpression="SITE-A"), 1),
        (held("b", copies=2), 1),
        (held("b", lifetime="2d"), 1),
        (held("b", lifetime="24h"), 1),
        (held("b", dataset="other", rseExpression="SITE-A", lifetime="2d"), 0),
    ],
)
def test_outputs_of_one_dataset_have_one_destination(other: dict[str, Any], problems: int) -> None:
    assert judge(spec(outputs=[held("a"), other])) == [Reason.INVALID_SPEC] * problems
    two = spec(outputs=[held("a", lifetime="1d"), held("b", lifetime="24h")])
    assert judge(two) == [], "said in other words"
