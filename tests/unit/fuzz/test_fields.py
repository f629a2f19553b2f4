"""Every field of every kind with what does not belong there: each buffer comes to its end, the other one goes on."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Sequence
from datetime import datetime

import pytest
from _pytest.mark import ParameterSet

from tests.unit.fuzz.cheap import digest_of
from tests.unit.fuzz.fields import Field, Path, fields_of, plant
from tests.unit.fuzz.hostile import ABSENT, Value, of_type, shown, worst
from tests.unit.fuzz.readings import reading_of
from tests.unit.fuzz.story import at, chosen, ends, is_every, is_whole, mended, planted, ref_of, stored_at, told
from volatile_rse.api.conditions import Condition, ConditionType
from volatile_rse.domain.times import is_time
from volatile_rse.ports.cluster import Object
from volatile_rse.reconcile.truths import read_truths

_AT: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("VolatileRSE", "spec", ("asked", "serving")),
    ("VolatileRSE", "status", ("serving", "keeping")),
    ("VolatileRSEClass", "spec", ("asked", "serving")),
    ("VolatileRSEClass", "status", ("asked", "serving")),
    ("RucioConnection", "spec", ("asked", "serving")),
    ("RucioConnection", "status", ("asked", "serving")),
    ("RSERecord", "spec", ("preparing", "serving", "keeping")),
    ("RSERecord", "status", ("preparing", "serving", "keeping")),
)
"""Kind, part, and when it is changed: what is changed before anybody has looked was stored so."""
_TRUTHS = (
    "spec.claims.0.account", "spec.claims.0.name", "spec.claims.0.uid", "spec.claims.0.request.outputs.0.dataset",
    "spec.claims.0.request.outputs.0.name", "spec.claims.0.request.outputs.0.path",
    "spec.claims.0.request.outputs.0.scope",
    "spec.recordId", "spec.instance", "spec.rseName", "spec.ledger",
    "spec.adoptedFrom",
)  # fmt: skip
"""Whose a buffer is, what goes where: only an operator writes that, and who forges it is believed."""
_SAID = ("status.session", "status.inputs", "status.steps", "status.destinations", "status.losses", "status.lostFiles")
_TIMES = ("status.safeAt", "status.freedAt", "status.closedAt")
"""What an operator has seen: one that is forged in the right form, or taken away, is believed."""
_METADATA: tuple[tuple[str, Value], ...] = (
    ("labels", {f"a/{number}": "x" * 63 for number in range(200)}),
    ("annotations", {"a": "\x00\x1b\u202e" * 1000, "volatilerse.io/x": "y" * 100_000}),
    ("finalizers", ["x/y", "volatilerse.io/unknown"]),
    ("creationTimestamp", "0001-01-01T00:00:00Z"),
    ("creationTimestamp", "9999-12-31T23:59:59Z"),
    ("generation", (1 << 63) - 1),
    ("ownerReferences", [{"kind": "Secret", "name": "x", "uid": "y", "apiVersion": "v1"}]),
    ("managedFields", [{"manager": "x" * 1000}] * 100),
)
"""What others than the operator write into the metadata; the API server itself keeps its form."""
_SHARE = 8
"""Cases of a part at a moment in the short form."""


def cases_of(kind: str, part: str, number: int) -> Iterator[tuple[Field, Value]]:
    """Give all cases, or of each field one of the worst, at each moment another."""
    for at_, field in enumerate(fields_of(kind, part)):
        if is_whole():
            yield from ((field, value) for value in of_type(field.type))
        else:
            few = (*worst(field.form), ABSENT)
            yield field, few[(at_ + number) % len(few)]


def is_forged(field: Field, body: Object, now: datetime) -> bool:
    """Tell whether a truth that was planted into a record reads like one, of which nobody sees that it is none."""
    said = str(field).startswith((*_SAID, *_TIMES)) and not read_truths(body.get("status"), None, now)[1]
    return body["kind"] == "RSERecord" and (said or str(field).startswith(_TRUTHS))


_TOLD = ("cannot be read", "with keys username", "nothing was sent there", "does not exist")
"""What a record says that cannot be used: of itself, and of the Secret or ConfigMap and the server that it names."""


def shares() -> Iterator[ParameterSet]:
    """Give each part at each moment; where all cases are tried, each field of it, so that a run can be gone on with."""
    for kind, part, moments in _AT:
        for number, moment in enumerate(moments):
            cases = chosen(list(cases_of(kind, part, number)), _SHARE)
            name = f"{kind}-{part}-{moment}"
            if is_every():
                for field, of_it in itertools.groupby(cases, key=lambda case: case[0]):
                    yield pytest.param(kind, part, moment, tuple(of_it), id=f"{name}-{field}")
            else:
                yield pytest.param(kind, part, moment, cases, id=name)


@pytest.mark.parametrize(("kind", "part", "moment", "cases"), list(shares()))
def test_no_field_keeps_a_buffer_from_its_end(
    kind: str, part: str, moment: str, cases: Sequence[tuple[Field, Value]]
) -> None:
    wrong = {}
    for field, value in cases:
        if faults := wrong_of(kind, part, moment, field, value):
            wrong[f"{field} is {shown(value)}"] = faults
    assert not wrong


def wrong_of(kind: str, part: str, moment: str, field: Field, value: Value) -> list[str]:
    """Play one case, unless what the operator reads in it is what it has read in one that has ended well."""
    before, now = stored_at(moment, kind)
    body = copy.deepcopy(before)
    plant(body, field.path, value)
    forged = is_forged(field, body, now)
    case = moment, forged, digest_of(reading_of(kind, field.path, body, now) or body)
    if case in _ENDED_WELL:
        return []
    world = at(moment)
    planted(world, kind, field.path, value)
    world.forged = forged
    faults = ends(world)
    if forged:
        faults = [fault for fault in faults if "the other one" in fault]
    elif faults and (kind, part) == ("RSERecord", "spec") and any(said in told(world) for said in _TOLD):
        # It says what is the matter, and comes to its end once that is mended.
        mended(world, kind, {**before, "status": world.truth(world.victim)})
        faults = ends(world)
    faults += [] if kind == "RSERecord" else world.faults
    if not faults:
        _ENDED_WELL.add(case)
    return faults


_ENDED_WELL: set[tuple[str, bool, bytes]] = set()


@pytest.mark.parametrize(
    ("kind", "moment", "path", "value"),
    [
        ("VolatileRSE", "asked", ("spec", "session", "ttl"), "99999999999d"),
        ("VolatileRSE", "asked", ("spec",), ABSENT),
        ("VolatileRSE", "serving", ("status", "conditions"), "x"),
        ("VolatileRSE", "serving", ("status", "conditions", 0), {"type": 7}),
        ("VolatileRSE", "serving", ("status", "outputs"), "x"),
        ("VolatileRSEClass", "asked", ("spec", "recordRetention"), "9999999d"),
        ("RucioConnection", "serving", ("spec",), ABSENT),
        ("RucioConnection", "serving", ("status", "since"), 10**30),
        ("RSERecord", "preparing", ("metadata", "creationTimestamp"), "9999-12-31T23:59:59Z"),
        ("RSERecord", "serving", ("spec", "claims", 0, "request", "session", "endGrace"), "99999999999d"),
    ],
)
def test_what_was_found_once_keeps_no_buffer_from_its_end(kind: str, moment: str, path: Path, value: Value) -> None:
    world = at(moment)
    planted(world, kind, path, value)
    assert not [*ends(world), *world.faults]


@pytest.mark.parametrize(
    ("key", "value"),
    [("lastTransitionTime", "yesterday"), ("status", "Perhaps"), ("reason", ""), ("type", 7), ("colour", "blue")],
)
def test_a_condition_that_the_api_server_would_not_take_is_not_written_back(key: str, value: Value) -> None:
    world = at("serving")
    for number in range(10):
        planted(world, "VolatileRSE", ("status", "conditions", number, key), value)
    world.run(lambda _world: False, 4)
    status = (world.cluster.get(world.victim.ref) or {})["status"]
    conditions = [Condition.model_validate(entry) for entry in status["conditions"]]
    assert {entry.type for entry in conditions} == set(ConditionType)
    assert all(is_time(entry.last_transition_time) for entry in conditions)


@pytest.mark.parametrize(
    ("kind", "moment"),
    [
        *itertools.product(("VolatileRSE", "VolatileRSEClass", "RucioConnection"), ("asked", "serving")),
        *itertools.product(("RSERecord",), ("preparing", "keeping")),
    ],
)
def test_no_metadata_keep_a_buffer_from_its_end(kind: str, moment: str) -> None:
    wrong = {}
    for key, value in chosen(_METADATA, 3):
        world = at(moment)
        with world.cluster.unchecked(ref_of(world, kind)) as body:
            kept = body["metadata"].get("finalizers", []) if key == "finalizers" else []
            body["metadata"][key] = [*kept, *value] if key == "finalizers" else value
        if key == "finalizers":
            # Somebody else's: it goes when they have taken it away.
            world.run(lambda _world: False, 4)
            with world.cluster.unchecked(ref_of(world, kind)) as body:
                body["metadata"]["finalizers"] = [name for name in body["metadata"]["finalizers"] if name not in value]
        if faults := [*ends(world), *world.faults]:
            wrong[f"metadata.{key}"] = faults
    assert not wrong
