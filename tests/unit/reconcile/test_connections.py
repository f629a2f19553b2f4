"""Clients of Rucio by their connections, also by those that nobody can have written."""

from __future__ import annotations

import pytest

from tests.unit.reconcile.small_world import Small
from volatile_rse.api.rucioconnection import RucioConnectionSpec
from volatile_rse.reconcile.connections import Connections


@pytest.fixture
def small() -> Small:
    small = Small(inputs=0)
    small.request()
    return small


def connection(small: Small, **changed: object) -> RucioConnectionSpec:
    (body,) = small.cluster.list("RucioConnection")
    return RucioConnectionSpec.model_validate(body["spec"]).model_copy(update=changed)


@pytest.mark.parametrize("field", ["account", "ledger_scope", "vo"])
def test_a_text_that_no_json_can_hold_is_a_connection_of_its_own(small: Small, field: str) -> None:
    connections = Connections(small.world())
    odd, right = connection(small, **{field: "\ud800"}), connection(small)
    assert connections.of(odd, "rucio") is not None
    connections.of(right, "rucio")
    assert [login.connection for login in small.logins] == [odd, right]


def test_one_connection_has_one_client(small: Small) -> None:
    connections = Connections(small.world())
    for _ in range(2):
        connections.of(connection(small), "rucio")
    assert len(small.logins) == 1
