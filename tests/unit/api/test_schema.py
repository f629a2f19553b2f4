from __future__ import annotations

from datetime import timedelta

import pytest
from pydantic import TypeAdapter, ValidationError

from volatile_rse.api.schema import (
    LARGEST,
    LONGEST,
    Count,
    Duration,
    Moment,
    Quantity,
    fault_of_label,
    parse_duration,
    parse_quantity,
)
from volatile_rse.api.volatilerse import VolatileRSESpec

SPEC = {
    "className": "standard",
    "account": "alice",
    "capacity": "20Gi",
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


@pytest.mark.parametrize(
    ("longest", "longer"),
    [("3650d", "3651d"), ("87600h", "87601h"), ("5256000m", "5256001m"), ("315360000s", "9" * 11 + "s")],
)
def test_a_duration_has_a_longest(longest: str, longer: str) -> None:
    duration = TypeAdapter(Duration)
    assert duration.validate_python(longest) == longest
    assert parse_duration(longest) == parse_duration(longer) == parse_duration("9" * 5000 + "d") == LONGEST
    with pytest.raises(ValidationError, match="at most 3650d"):
        duration.validate_python(longer)


def test_a_quantity_has_a_largest() -> None:
    quantity, largest = TypeAdapter(Quantity), str(LARGEST)
    assert quantity.validate_python(largest) == largest
    assert quantity.validate_python("8191Pi") == "8191Pi"
    assert parse_quantity("8192Pi") == parse_quantity("9" * 5000 + "Ki") == LARGEST
    for larger in ("9223372036854775808", "8192Pi", "9223372036854775808k"):
        with pytest.raises(ValidationError, match="less than 8192Pi"):
            quantity.validate_python(larger)


@pytest.mark.parametrize("wrong", [None, 7, True, [], "٣h", "3h\n", "1h "])
def test_what_is_no_text_of_these_is_none(wrong: object) -> None:
    for kind in (Duration, Quantity):
        with pytest.raises(ValidationError):
            TypeAdapter(kind).validate_python(wrong)


@pytest.mark.parametrize("text", ["2026-12-01T18:00:00Z", "2026-12-01T18:00:00+01:00", "2999-02-28T00:00:00-11:30"])
def test_moments(text: str) -> None:
    assert TypeAdapter(Moment).validate_python(text) == text


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "2026-12-01",
        "2026-12-01T18:00:00",
        "2026-12-01 18:00:00Z",
        "2026-12-01T18:00:00Z\n",
        "2026-12-01T18:00:00.5Z",
        "2026-02-30T18:00:00Z",
        "2026-12-01T24:00:01Z",
        "2026-12-01T18:00:00+25:00",
        "2026-12-01T18:00:00+02:90",
        "1999-12-01T18:00:00Z",
        "8h",
        7,
        None,
    ],
)
def test_what_is_no_moment(wrong: object) -> None:
    with pytest.raises(ValidationError, match="RFC 3339"):
        TypeAdapter(Moment).validate_python(wrong)


def test_a_count_stops_at_the_largest() -> None:
    count = TypeAdapter(Count)
    assert count.validate_python(LARGEST + 7) == LARGEST
    for wrong in (-1, "x", None):
        with pytest.raises(ValidationError):
            count.validate_python(wrong)


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


@pytest.mark.parametrize("selector", [{"matchLabels": {"a": "b"}}, {}, None, "text"])
def test_the_selector_of_an_earlier_version_means_nothing_and_is_not_written_again(selector: object) -> None:
    session = {"podSelector": selector, "ttl": "2h"}
    spec = VolatileRSESpec.model_validate(SPEC | {"session": session})
    assert spec == VolatileRSESpec.model_validate(SPEC | {"session": {"ttl": "2h"}})
    assert "podSelector" not in spec.dump()["session"]


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
