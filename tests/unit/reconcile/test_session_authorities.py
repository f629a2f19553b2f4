"""Whose certificates the programs of a session believe."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.reconcile.small_world import Small
from volatile_rse.adapters.authority import LocalAuthority, hashed_name
from volatile_rse.api.volatilerseclass import VolatileRSEClassSpec
from volatile_rse.reconcile import session_authorities as module
from volatile_rse.reconcile.session_authorities import session_authorities

ONE, TWO = LocalAuthority.create()[0], LocalAuthority.create()[0]


def small_with(*certificates: str) -> Small:
    small = Small()
    small.request()
    metadata = {"namespace": "ops", "name": "grid-ca"}
    data = {"ca.crt": "".join(certificates)}
    small.cluster.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
    return small


def class_naming(name: str | None) -> VolatileRSEClassSpec:
    credentials = {"secretName": "site-tokens", **({} if name is None else {"caConfigMap": name})}
    return VolatileRSEClassSpec.model_validate(VolatileRSEClassSpec.example() | {"siteCredentials": credentials})


def given(*certificates: str, name: str | None = "grid-ca") -> tuple[dict[str, str], str]:
    """Give the files of a session of a class that names such a ConfigMap, and the operator's own certificate."""
    world = replace(small_with(*certificates).world(), hashed_name=hashed_name)
    return session_authorities(world, class_naming(name)), world.authority.bundle()


def test_it_has_the_buffer_s_and_those_of_the_class_s_sites() -> None:
    found, own = given("# of a grid\n", ONE, TWO, ONE)
    assert found == {"ca.crt": own, **{hashed_name(each): each for each in (own, ONE, TWO)}}


def test_lines_may_end_as_windows_has_them() -> None:
    """OpenSSL reads them, and so the trial of the class finds nothing wrong with them."""
    one = ONE.replace("\n", "\r\n")
    found, own = given(one, TWO)
    assert found == {"ca.crt": own, hashed_name(own): own, hashed_name(ONE): one, hashed_name(TWO): TWO}


@pytest.mark.parametrize("name", [None, "absent"])
def test_without_authorities_of_sites_it_has_the_buffer_s(name: str | None) -> None:
    found, own = given(ONE, name=name)
    assert found == {"ca.crt": own, hashed_name(own): own}


def test_what_is_no_certificate_is_left_out() -> None:
    broken = "-----BEGIN CERTIFICATE-----\nbm90aGluZw==\n-----END CERTIFICATE-----\n"
    found, own = given(broken, ONE)
    assert set(found) == {"ca.crt", hashed_name(own), hashed_name(ONE)}


def test_two_of_one_hash_have_numbers_without_a_gap() -> None:
    small = small_with(ONE, TWO)
    world = replace(small.world(), hashed_name=lambda _: "abcd.0")
    assert list(session_authorities(world, class_naming("grid-ca"))) == ["ca.crt", "abcd.0", "abcd.1", "abcd.2"]


def test_more_than_there_is_room_for_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ROOM", len(ONE) + 10)
    found, own = given(ONE, TWO)
    assert set(found) == {"ca.crt", hashed_name(own), hashed_name(ONE)}
