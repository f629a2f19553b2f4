"""Who may change what of a VolatileRSE that is for a hub's user: the policy's own expressions, evaluated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from cel_expr_python import cel

MANIFEST = Path(__file__).parents[2] / "manifests" / "admission.yaml"
NAME = "volatile-rse-on-behalf-of"
OF_RIGHTS = ("may", "mayEnd")
"""Variables that ask the API server for the rights of who asks: the tests say them."""
Rights = tuple[bool, bool]

NANO = {"name": "nano", "did": "user.alice:nano"}
OUT = {"name": "out", "path": "**", "scope": "user.alice", "dataset": "out"}
LIVING: dict[str, Any] = {
    "onBehalfOf": "alice",
    "account": "alice",
    "endRequested": False,
    "inputs": [NANO],
    "outputs": [OUT],
    "session": {"ttl": "12h"},
    "teardown": {"deadline": "1h"},
}
NOBODYS: dict[str, Any] = {key: value for key, value in LIVING.items() if key != "onBehalfOf"}


def policy() -> dict[str, Any]:
    found = [body for body in yaml.safe_load_all(MANIFEST.read_text()) if body["metadata"]["name"] == NAME]
    spec: dict[str, Any] = found[0]["spec"]
    return spec


def value(expression: str, data: dict[str, Any]) -> Any:
    env = cel.NewEnv(variables=dict.fromkeys(data, cel.Type.DYN))
    return env.compile(expression, disable_check=True).eval(data=data).plain_value()


def is_taken(old: dict[str, Any] | None, new: dict[str, Any], rights: Rights) -> bool:
    data: dict[str, Any] = {
        "object": {"metadata": {"name": "run"}, "spec": new},
        "oldObject": None if old is None else {"metadata": {"name": "run"}, "spec": old},
        "request": {"namespace": "hub", "userInfo": {"username": "carol"}},
        "variables": dict(zip(OF_RIGHTS, rights, strict=True)),
    }
    spec = policy()
    if not all(value(condition["expression"], data) for condition in spec["matchConditions"]):
        return True
    for variable in spec["variables"]:
        if variable["name"] not in OF_RIGHTS:
            data["variables"][variable["name"]] = value(variable["expression"], data)
    refused = [rule for rule in spec["validations"] if not value(rule["expression"], data)]
    for rule in refused:
        assert "carol may n" in value(rule["messageExpression"], data), "who is refused is named"
    return not refused


NOBODY, ENDER, HUB = (False, False), (False, True), (True, False)
"""Who may neither `use` `hubusers` nor delete it; who may delete it; who may use hubusers."""
CASES = {
    # what: (before, after, taken of nobody, of who may delete, of a hub)
    "made": (None, LIVING, False, False, True),
    "made, for no user": (None, NOBODYS, True, True, True),
    "applied again": (LIVING, LIVING, True, True, True),
    "input added": (LIVING, LIVING | {"inputs": [NANO, NANO | {"name": "more"}]}, False, False, True),
    "input removed": (LIVING, LIVING | {"inputs": []}, False, False, True),
    "inputs all gone": (LIVING, {key: LIVING[key] for key in LIVING if key != "inputs"}, False, False, True),
    "output added": (LIVING, LIVING | {"outputs": [OUT, OUT | {"name": "more"}]}, False, False, True),
    "extended": (LIVING, LIVING | {"session": {"extendUntil": "2027-01-01T00:00:00Z"}}, False, False, True),
    "fetched": (LIVING, LIVING | {"teardown": {"deadline": "1h", "fetch": True}}, False, False, True),
    "discarded": (LIVING, LIVING | {"teardown": {"deadline": "1h", "discard": {"rse": "A"}}}, False, False, True),
    "receipt kept shorter": (LIVING, LIVING | {"ttlAfterFinished": "1s"}, False, False, True),
    "field of a later version": (LIVING, LIVING | {"later": 1}, False, False, True),
    "ended": (LIVING, LIVING | {"endRequested": True}, False, True, True),
    "ended, of an older version": (
        {key: LIVING[key] for key in LIVING if key != "endRequested"},
        LIVING | {"endRequested": True},
        False,
        True,
        True,
    ),
    "ended with an input": (LIVING, LIVING | {"endRequested": True, "inputs": []}, False, False, True),
    "user taken away": (LIVING, NOBODYS, False, False, True),
    "user given": (NOBODYS, LIVING, False, False, True),
    "for no user, extended": (NOBODYS, NOBODYS | {"session": {"ttl": "13h"}}, True, True, True),
    "for no user, ended": (NOBODYS, NOBODYS | {"endRequested": True}, True, True, True),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_goes_by_a_user_s_grants_needs_the_right_to_name_that_user(
    case: tuple[dict[str, Any] | None, dict[str, Any], bool, bool, bool],
) -> None:
    old, new, *expected = case
    assert [is_taken(old, new, rights) for rights in (NOBODY, ENDER, HUB)] == expected


def test_neither_status_nor_deletion_are_asked_for_rights() -> None:
    (rule,) = policy()["matchConstraints"]["resourceRules"]
    assert (rule["operations"], rule["resources"]) == (["CREATE", "UPDATE"], ["volatilerses"])
