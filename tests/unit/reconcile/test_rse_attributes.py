"""Attributes that a class gives its RSEs are compared as Rucio stores them, and what Rucio lacks is said."""

from __future__ import annotations

import re

import pytest

from tests.unit.reconcile.small_world import Small
from volatile_rse.api.rserecord import RSERecordSpec
from volatile_rse.api.volatilerseclass import ATTRIBUTE_KEY, VolatileRSEClassSpec
from volatile_rse.builders.rse import buffer_rse
from volatile_rse.domain.catalogue import ATTRIBUTE_LENGTH, BufferRse, RseState, attribute_text
from volatile_rse.domain.effects import EnsureRse
from volatile_rse.ports.cluster import Ref


def _with(small: Small, **attributes: str) -> None:
    small.cluster.merge(Ref("VolatileRSEClass", None, "standard"), {"spec": {"rseAttributes": attributes}})


@pytest.mark.parametrize("value", ["false", "False", "true", "TRUE", "3", "", "x" * 255])
def test_an_rse_is_complete_and_written_once_whatever_rucio_makes_of_a_value(value: str) -> None:
    small = Small()
    _with(small, verify_checksum=value)
    small.request()
    small.until(small.has_session)
    assert small.condition("RSERegistered")["status"] == "True"
    assert sum(isinstance(effect, EnsureRse) for effect in small.applied) == 1


def test_an_account_that_rucio_answers_for_with_a_truth_value() -> None:
    small = Small()
    grant = {"namespaces": ["alice"], "accounts": ["true"], "scopes": ["user.alice"]}
    small.cluster.merge(Ref("VolatileRSEClass", None, "standard"), {"spec": {"tenancy": {"grants": [grant]}}})
    small.request(account="true", outputs=[])
    small.until(small.has_session)
    found = small.catalogue.buffer(small.rse)
    assert found is not None
    assert found.attributes["vrse_account"] == "true"


def test_the_longest_name_that_an_earlier_version_took_fits_into_its_mark() -> None:
    small = Small()
    small.request()
    small.until(small.has_session)
    spec = RSERecordSpec.model_validate(small.record["spec"])
    [claim] = spec.claims
    claim = claim.model_copy(update={"namespace": "n" * 63, "name": "m" * 253})
    marks = buffer_rse(spec.model_copy(update={"claims": [claim]})).attributes
    assert marks["vrse_claim"].startswith(f"{'n' * 63}/mmm")
    assert max(map(len, marks.values())) <= ATTRIBUTE_LENGTH


def test_what_an_rse_lacks_is_said() -> None:
    small = Small()
    honest = small.catalogue.rse

    def rse(wanted: BufferRse) -> RseState | None:
        state = honest(wanted)
        return state and RseState(state.name, ("its attribute region is 'there', not 'here'",), deletable=False)

    small.catalogue.rse = rse  # type: ignore[method-assign,assignment]
    small.request()
    small.until(lambda: "region" in small.condition("RSERegistered").get("message", ""))
    assert small.condition("RSERegistered")["status"] == "False"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("false", False, True), ("False", False, True), ("TRUE", True, True), ("true", "True", True), ("3", 3, True),
        ("", None, True), ("false", "no", False), ("1", True, False), ("3", "3.0", False), ("x", "X", False),
    ],
)  # fmt: skip
def test_values_that_are_one_in_rucio(one: object, other: object, same: bool) -> None:  # noqa: FBT001 (a parameter)
    assert (attribute_text(one) == attribute_text(other)) is same


@pytest.mark.parametrize("key", ["verify_checksum", "tier", "a.b-c", "_x", "9", "k" * 255])
def test_a_key_that_rucio_takes(key: str) -> None:
    assert re.fullmatch(ATTRIBUTE_KEY, key)


@pytest.mark.parametrize("key", ["", "a/b", "a b", "a?b", "a#b", "a%2Fb", "..", "-x", "ä", "a=b", "k" * 256, "a\n"])
def test_a_key_that_would_be_another_url(key: str) -> None:
    assert not re.fullmatch(ATTRIBUTE_KEY, key)


def test_values_are_bounded_at_admission() -> None:
    field = VolatileRSEClassSpec.model_json_schema()["properties"]["rseAttributes"]
    assert field["additionalProperties"]["maxLength"] == 255
