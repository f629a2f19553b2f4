"""Which namespaces a grant means, and whose a record is."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.unit.domain.test_problems import CLASS, spec
from volatile_rse.api.conditions import Reason
from volatile_rse.api.volatilerseclass import Grant, Tenancy, VolatileRSEClassSpec
from volatile_rse.domain.problems import problems_of_request
from volatile_rse.domain.rights import grants_of
from volatile_rse.domain.tenants import Namespace, fault_of_grant, faults_of_tenancy, fits, is_of

BORN = datetime(2026, 11, 30, tzinfo=UTC)
HUB = Namespace("jupyter-alice", "u1", {"team": "cms", "tier": "b"}, BORN)


def granted(namespace: Namespace = HUB, **grant: Any) -> bool:
    tenancy = Tenancy.model_validate({"grants": [{"accounts": ["alice"], **grant}]})
    return bool(grants_of(tenancy, namespace, "alice"))


@pytest.mark.parametrize(
    ("pattern", "means"),
    [
        ("jupyter-alice", True),
        ("jupyter-*", True),
        ("jupyter-alice*", True),
        ("*", True),
        ("**", True),
        ("*-alice", True),
        ("*pyter*al*", True),
        ("j*-*e", True),
        ("jupyter", False),
        ("jupyter-", False),
        ("upyter-*", False),
        ("*-alic", False),
        ("jupyter-alice*e", False),
        ("jupyter-alice*alice", False),
        ("*al*al*", False),
        ("*ali*lice", False),
        ("*pyter*ju*", False),
    ],
)
def test_a_pattern_means_whole_names_and_a_star_any_characters(pattern: str, *, means: bool) -> None:
    assert fits(pattern, HUB.name) is means
    assert granted(namespaces=[pattern]) is means
    assert granted(namespaces=["other", pattern]) is means


def test_a_pattern_of_nothing_but_stars_takes_no_time() -> None:
    began = time.monotonic()
    assert not fits("*a" * 31 + "*", "a" * 30 + "b" * 33)
    assert time.monotonic() - began < 0.1


def expression(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


@pytest.mark.parametrize(
    ("selector", "means"),
    [
        ({}, True),
        ({"matchLabels": {"team": "cms"}}, True),
        ({"matchLabels": {"team": "cms", "tier": "b"}}, True),
        ({"matchLabels": {"team": "cms", "tier": "a"}}, False),
        ({"matchLabels": {"team": "atlas"}}, False),
        ({"matchLabels": {"site": ""}}, False),
        (expression("team", "In", "atlas", "cms"), True),
        (expression("team", "In", "atlas"), False),
        (expression("site", "In", "cms"), False),
        (expression("team", "NotIn", "atlas"), True),
        (expression("team", "NotIn", "atlas", "cms"), False),
        (expression("site", "NotIn", "cms"), True),
        (expression("team", "Exists"), True),
        (expression("site", "Exists"), False),
        (expression("site", "DoesNotExist"), True),
        (expression("team", "DoesNotExist"), False),
        ({"matchLabels": {"team": "cms"}, **expression("tier", "In", "a")}, False),
    ],
)
def test_a_selector_means_what_it_means_in_kubernetes(selector: dict[str, Any], *, means: bool) -> None:
    assert granted(namespaceSelector=selector) is means
    assert granted(namespaceSelector=selector, namespaces=["jupyter-*"]) is means
    assert not granted(namespaceSelector=selector, namespaces=["lab-*"]), "names and labels both have to hold"


def test_a_grant_with_a_uid_is_for_this_very_namespace() -> None:
    assert granted(namespaces=["jupyter-alice"], uid="u1")
    assert not granted(namespaces=["jupyter-alice"], uid="u2")
    assert not granted(namespaces=["jupyter-bob"], uid="u1")


ONE = {"namespaces": ["a"]}


@pytest.mark.parametrize(
    ("grant", "fault"),
    [
        (ONE, ""),
        (ONE | {"uid": "u"}, ""),
        ({"namespaceSelector": {}}, ""),
        ({"namespaces": ["*"]}, ""),
        ({"namespaces": ["a" * 63]}, ""),
        ({}, "namespaces is missing, and so is namespaceSelector"),
        ({"uid": "u"}, "namespaces is missing"),
        ({"namespaces": ["A"]}, "namespaces[0]: 'A' is neither the name of a namespace nor a pattern"),
        ({"namespaces": ["a", "a?"]}, "namespaces[1]: 'a?'"),
        ({"namespaces": ["a\n"]}, "namespaces[0]: 'a\\n'"),
        ({"namespaces": [""]}, "namespaces[0]: ''"),
        ({"namespaces": ["-*"]}, "namespaces[0]: '-*'"),
        ({"namespaces": ["a*"], "uid": "u"}, "uid is for one namespace"),
        ({"namespaces": ["a", "b"], "uid": "u"}, "uid is for one namespace"),
        ({"namespaceSelector": {}, "uid": "u"}, "uid is for one namespace"),
        ({"namespaceSelector": {"matchLabels": {"a b": "c"}}}, "namespaceSelector.matchLabels: 'a b' is no key"),
        ({"namespaceSelector": {"matchLabels": {"a": "b c"}}}, "namespaceSelector.matchLabels: 'b c' is no value"),
        ({"namespaceSelector": {"matchLabels": {f"{'a' * 254}/b": "c"}}}, "is no key of a label"),
        ({"namespaceSelector": expression("", "Exists")}, "matchExpressions[0]: '' is no key"),
        ({"namespaceSelector": expression("a", "In", "b c")}, "matchExpressions[0]: 'b c' is no value"),
        ({"namespaceSelector": expression("a", "In")}, "matchExpressions[0]: operator In needs values"),
        ({"namespaceSelector": expression("a", "NotIn")}, "operator NotIn needs values"),
        ({"namespaceSelector": expression("a", "Exists", "b")}, "operator Exists has no values"),
        ({"namespaceSelector": expression("a", "DoesNotExist", "b")}, "operator DoesNotExist has no values"),
        ({"namespaceSelector": expression("a", "Gt", "1")}, "operator 'Gt' is none of In, NotIn, Exists"),
        ({"namespaceSelector": expression("a", "in", "1")}, "operator 'in' is none of"),
    ],
)
def test_a_grant_that_can_mean_nobody_says_why(grant: dict[str, Any], fault: str) -> None:
    told = fault_of_grant(Grant.model_validate({"accounts": ["alice"], **grant}))
    assert fault in told
    assert bool(told) == bool(fault)


def test_a_wrong_grant_takes_none_of_the_others_along() -> None:
    wrong = {"accounts": ["alice"], "namespaceSelector": expression("team", "Gt", "1")}
    right = {"accounts": ["alice"], "namespaces": ["jupyter-*"]}
    tenancy = Tenancy.model_validate({"grants": [wrong, right]})
    assert len(grants_of(tenancy, HUB, "alice")) == 1
    (told,) = faults_of_tenancy(tenancy)
    assert told.startswith("spec.tenancy.grants[0].namespaceSelector.matchExpressions[0]: operator 'Gt'")


@pytest.mark.parametrize(
    ("users", "user", "granted"),
    [
        (None, None, True),
        (None, "alice", True),
        (["alice"], "alice", True),
        (["bob", "al*"], "alice", True),
        (["*@cern.ch"], "alice@cern.ch", True),
        (["*"], "alice", True),
        # On nobody's behalf it is of the whole namespace.
        (["*"], None, False),
        (["alice"], None, False),
        (["alice"], "alice2", False),
        (["alice"], "Alice", False),
        (["*@cern.ch"], "alice@cern.ch.evil", False),
    ],
)
def test_a_grant_may_be_for_users_of_a_hub_alone(users: list[str] | None, user: str | None, *, granted: bool) -> None:
    grant = {"accounts": ["alice"], "scopes": ["user.alice"], "namespaces": ["jupyter-*"], "onBehalfOf": users}
    class_ = VolatileRSEClassSpec.model_validate(CLASS | {"tenancy": {"grants": [grant]}})
    request = spec().model_copy(update={"on_behalf_of": user})
    found = problems_of_request(HUB, request, class_, connection_exists=True)
    assert [problem.reason for problem in found] == ([] if granted else [Reason.ACCOUNT_NOT_GRANTED])
    assert granted or user is None or f"on behalf of {user!r}" in found[0].message


def judged(grants: list[dict[str, Any]], *, scope: str = "user.alice") -> tuple[Reason, str]:
    whole = [{"accounts": ["alice"], "scopes": ["user.alice"], **grant} for grant in grants]
    class_ = VolatileRSEClassSpec.model_validate(CLASS | {"tenancy": {"grants": whole}})
    (problem,) = problems_of_request(HUB, spec(scope=scope), class_, connection_exists=True)
    return problem.reason, problem.message


@pytest.mark.parametrize(
    ("grant", "said"),
    [
        ({"namespaceSelector": {"matchLabels": {"site": "x"}}}, "wants label site=x, and this one has none such"),
        ({"namespaceSelector": {"matchLabels": {"team": "x"}}}, "wants label team=x, and this one has team=cms"),
        (
            {"namespaceSelector": expression("team", "In", "b", "a")},
            "wants label team with one of a, b, and this one has team=cms",
        ),
        ({"namespaceSelector": expression("team", "NotIn", "cms")}, "takes none with label team=cms"),
        ({"namespaceSelector": expression("site", "Exists")}, "wants label site, and this one has none such"),
        (
            {"namespaceSelector": expression("team", "DoesNotExist")},
            "takes none with label team, and this one has team=cms",
        ),
        ({"namespaces": [HUB.name], "uid": "u2"}, "wants uid u2, and this one has u1"),
        ({"namespaces": [HUB.name, "x?"]}, "is wrong, and holds for nobody: see"),
    ],
)
def test_what_a_namespace_lacks_is_an_admins_task(grant: dict[str, Any], said: str) -> None:
    reason, message = judged([{"namespaces": ["other"]}, grant])
    assert reason is Reason.NAMESPACE_NOT_GRANTED
    assert f"does not grant account 'alice' to namespace 'jupyter-alice': grants[1] {said}" in message
    assert "ADMIN must act" in message
    assert "'other'" not in message, "tenants are not told of others"


def test_what_a_namespace_lacks_for_one_scope_is_told_of_this_scope() -> None:
    lacked: dict[str, Any] = {"namespaceSelector": {"matchLabels": {"site": "x"}}}
    both: list[dict[str, Any]] = [
        {"namespaces": ["jupyter-*"]},
        lacked | {"scopes": ["cms"]},
        lacked | {"scopes": ["atlas"]},
    ]
    reason, message = judged(both, scope="cms")
    assert reason is Reason.NAMESPACE_NOT_GRANTED
    assert (
        "does not grant scope 'cms' to namespace 'jupyter-alice' with account 'alice' to write: grants[1] w" in message
    )
    assert "grants[2]" not in message
    assert judged(both, scope="lhcb")[0] is Reason.SCOPE_NOT_GRANTED


def test_of_very_many_grants_some_are_named() -> None:
    lacked = [{"namespaceSelector": {"matchLabels": {"site": f"s{number}"}}} for number in range(100)]
    message = judged(lacked)[1]
    assert "site=s2, and this one has none such; 97 more. ADMIN" in message


@pytest.mark.parametrize(
    ("name", "uid", "age", "ours"),
    [
        ("jupyter-alice", "u1", 0, True),
        ("jupyter-alice", "u2", 0, False),
        ("jupyter-bob", "u1", 0, True),
        ("jupyter-alice", None, 0, True),
        ("jupyter-alice", "", 1, True),
        ("jupyter-alice", None, -1, False),
        ("jupyter-bob", None, 0, False),
        ("jupyter-alice", 7, 0, True),
        (None, None, 0, False),
    ],
)
def test_a_record_is_of_the_namespace_with_its_uid(name: object, uid: object, age: int, *, ours: bool) -> None:
    """One of an earlier version tells no UID: it was another namespace's if it is older than this one."""
    assert is_of(HUB, name, uid, BORN + timedelta(hours=age)) is ours


def test_whatever_tells_no_time_is_compared_by_its_name() -> None:
    assert is_of(HUB, HUB.name, None, None)
    assert is_of(Namespace(HUB.name, "u1"), HUB.name, None, BORN)
