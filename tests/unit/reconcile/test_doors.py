"""An RSE with several doors: where copies go, and where they are looked for."""

from __future__ import annotations

import pytest

from tests.unit.reconcile.small_world import Small
from tests.unit.reconcile.test_lies import written
from tests.unit.reconcile.test_site_tokens import A, B, C, give


def beginning(*doors: tuple[str, int | None, int | None]) -> Small:
    small = Small(inputs=0)
    small.catalogue.alter("SITE-B", davs=doors)
    give(small, dict.fromkeys((A, B, C), "token"))
    return small


@pytest.mark.parametrize(
    ("doors", "host"),
    [
        (((B, 1, 1), (C, 0, 0)), C),
        (((B, 0, 1), (C, 1, 0)), B),
        (((B, 1, 1), (C, None, 0)), B),
        (((B, None, 1), (C, None, None)), B),
    ],
    ids=["0 is first", "where it is listed", "one to read by", "none to read by"],
)
def test_copies_go_and_are_looked_for_where_rucio_lists_them(
    doors: tuple[tuple[str, int | None, int | None], ...], host: str
) -> None:
    small = beginning(*doors)
    written(small)
    small.until(small.is_closed)
    assert {url.split("/")[2] for url in small.buffer.sites} == {f"{host}:8443"}
    assert {url.split("/")[2] for url, _ in small.shown} == {f"{host}:8443"}


def test_two_doors_to_two_places_are_told_as_the_site_s_and_not_as_the_agent_s_lie() -> None:
    small = beginning((B, 2, 1), (C, 1, None))
    written(small)
    small.until(lambda: small.condition("OutputsSafe").get("reason") == "DoorsDisagree")
    said = small.condition("OutputsSafe")["message"]
    assert f"RSE SITE-B has davs://{B}:8443/store/" in said
    assert f"sends readers to davs://{C}:8443/store/" in said
    assert "ADMIN must act" in said
    for _ in range(5):
        small.step()
    assert "safeAt" not in small.truth
    assert small.kept_volumes() == 1
    small.buffer.sites.update({url.replace(B, C): what for url, what in small.buffer.sites.items()})
    small.until(small.is_closed)


def test_a_door_that_may_be_written_by_since_makes_no_lie_of_what_is_at_the_other_one() -> None:
    small = beginning((B, 2, 1), (C, 1, None))
    written(small)
    small.until(lambda: small.condition("OutputsSafe").get("reason") == "DoorsDisagree")
    small.catalogue.alter("SITE-B", davs=((B, 2, 1), (C, 1, 1)))
    for _ in range(5):
        small.step()
        assert small.condition("OutputsSafe").get("reason") != "BufferImplausible"
    small.buffer.sites.update({url.replace(B, C): what for url, what in small.buffer.sites.items()})
    small.until(small.is_closed)


def test_what_is_at_neither_door_is_the_agent_s_word_against_the_site_s() -> None:
    small = beginning((B, 2, 1), (C, 1, None))
    small.buffer.sites = type("Nowhere", (dict,), {"__setitem__": lambda *_: None})()
    written(small)
    small.until(lambda: small.condition("OutputsSafe").get("reason") == "BufferImplausible")
    assert f"davs://{C}:8443/store/" in small.condition("OutputsSafe")["message"]
