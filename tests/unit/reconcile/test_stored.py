"""A record is read by its types: bounds that were made narrower since count for what is new."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tests.unit.reconcile.small_world import Small
from volatile_rse.api.rserecord import RSERecordSpec
from volatile_rse.reconcile.stored import read_stored


@pytest.fixture(name="spec", scope="module")
def spec_of_a_record() -> dict[str, Any]:
    small = Small(inputs=1)
    small.request()
    small.step()
    return dict(small.record["spec"])


def changed(spec: Any, path: str, value: object) -> Any:
    first, _, rest = path.partition(".")
    old = spec[int(first)] if isinstance(spec, list) else spec.get(first, {})
    new = changed(old, rest, value) if rest else value
    if isinstance(spec, list):
        return [new if at == int(first) else entry for at, entry in enumerate(spec)]
    return {**spec, first: new}


REQUEST, CLASS = "claims.0.request", "classSnapshot"


@pytest.mark.parametrize(
    ("path", "value", "read"),
    [
        (f"{REQUEST}.session.ttl", "4000d", "3650d"),
        (f"{REQUEST}.session.ttl", "soon", "8h"),
        (f"{REQUEST}.outputs.0.destination.lifetime", "4000d", "3650d"),
        (f"{REQUEST}.outputs.0.destination.lifetime", "soon", None),
        (f"{REQUEST}.outputs.0.destination.copies", 99, 8),
        (f"{REQUEST}.outputs.0.path", "x" * 300, "x" * 300),
        (f"{REQUEST}.outputs.0.scope", "no scope!", "no scope!"),
        (f"{REQUEST}.account", "Alice Liddell", "Alice Liddell"),
        (f"{REQUEST}.capacity", "9999999999999Pi", str((1 << 63) - 1)),
        (f"{REQUEST}.inputs.0.minimumPercent", -4, 0),
        (f"{CLASS}.recordRetention", "99999d", "3650d"),
        (f"{CLASS}.exposure.publicHost", "Host", "Host"),
        (f"{CLASS}.maxRegisteredReplicas", 10**20, 10_000_000),
        (
            f"{CLASS}.rseAttributes",
            {f"key{n}": "x" * 300 for n in range(20)},
            {f"key{n}": "x" * 300 for n in range(20)},
        ),
        ("connectionSnapshot.server", "http://rucio.example.org", "http://rucio.example.org"),
    ],
)
def test_what_is_beyond_a_bound(spec: dict[str, Any], path: str, value: object, read: object) -> None:
    found: Any = read_stored(RSERecordSpec, changed(spec, path, value)).dump()
    for step in path.split("."):
        found = found[int(step)] if isinstance(found, list) else found.get(step)
    assert found == read


def test_outputs_are_all_there_however_many(spec: dict[str, Any]) -> None:
    output = spec["claims"][0]["request"]["outputs"][0]
    many = changed(spec, f"{REQUEST}.outputs", [{**output, "name": f"o{n}"} for n in range(40)])
    assert len(read_stored(RSERecordSpec, many).claims[0].request.outputs) == 40


@pytest.mark.parametrize("path", [f"{REQUEST}.outputs", f"{REQUEST}.account", CLASS, f"{REQUEST}.colour"])
def test_what_is_something_else_is_refused(spec: dict[str, Any], path: str) -> None:
    with pytest.raises(ValidationError):
        read_stored(RSERecordSpec, changed(spec, path, 7))
