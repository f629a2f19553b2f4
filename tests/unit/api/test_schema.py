from __future__ import annotations

from datetime import timedelta

import pytest
from pydantic import ValidationError

from volatile_rse.api.schema import fault_of_label, parse_duration, parse_quantity
from volatile_rse.api.volatilerse import VolatileRSESpec

SPEC = {
    "className": "standard",
    "account": "alice",
    "capacity": "20Gi",
    "session": {"podSelector": {"matchLabels": {"analysis": "dimuon"}}},
    "outputs": [
        {
            "name": "histograms",
            "path": "histograms/**/*.root",
            "scope": "user.alice",
            "dataset": "dimuon_v3",
            "destination": {"rseExpression": "SITE-B"},
        }
    ],
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [("5s", timedelta(seconds=5)), ("90m", timedelta(minutes=90)), ("8h", timedelta(hours=8)), ("30d", timedelta(30))],
)
def test_durations(text: str, expected: timedelta) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize("text", ["", "5", "0s", "-1h", "1h30m", "1w", "1.5h"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(("text", "expected"), [("1", 1), ("20Gi", 20 << 30), ("500M", 500_000_000), ("3Ki", 3072)])
def test_quantities(text: str, expected: int) -> None:
    assert parse_quantity(text) == expected


@pytest.mark.parametrize("text", ["", "0", "1.5Gi", "1KB", "Gi"])
def test_other_quantities_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a number of bytes"):
        parse_quantity(text)


def test_a_spec_survives_the_way_to_kubernetes_and_back() -> None:
    spec = VolatileRSESpec.model_validate(SPEC)
    dumped = spec.dump()
    assert dumped["session"]["endGrace"] == "5m"
    assert dumped["outputs"][0]["register"] == "OnSessionEnd"
    assert VolatileRSESpec.model_validate(dumped) == spec


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(ValidationError, match="tll"):
        VolatileRSESpec.model_validate(SPEC | {"tll": "8h"})


def test_a_session_without_a_label_is_refused() -> None:
    with pytest.raises(ValidationError):
        VolatileRSESpec.model_validate(SPEC | {"session": {"podSelector": {"matchLabels": {}}}})


@pytest.mark.parametrize(
    ("key", "value"), [("analysis", "dimuon"), ("a", ""), ("example.org/a_b.c-d", "A"), ("x" * 63, "y" * 63)]
)
def test_labels(key: str, value: str) -> None:
    assert fault_of_label(key, value) == ""


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("session", "my value"),
        ("session", "-a"),
        ("session", "a\n"),
        ("session", "y" * 64),
        ("", "a"),
        ("my key", "a"),
        ("/a", "a"),
        ("Example.org/a", "a"),
        ("x" * 64, "a"),
        (f"{'x.' * 127}/a", "a"),
        (f"{'x' * 254}/a", "a"),
    ],
)
def test_what_is_no_label(key: str, value: str) -> None:
    assert "is no" in fault_of_label(key, value)
