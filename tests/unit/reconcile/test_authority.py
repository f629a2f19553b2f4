from __future__ import annotations

import logging

import pytest

from tests.unit.reconcile.small_world import Small
from volatile_rse.adapters.authority import LocalAuthority
from volatile_rse.domain.settings import AUTHORITY
from volatile_rse.ports.cluster import Ref
from volatile_rse.reconcile.authority import stored_authority


def test_an_authority_that_is_lost_or_replaced_is_told(caplog: pytest.LogCaptureFixture) -> None:
    small = Small()
    first = stored_authority(small.cluster, small.settings, LocalAuthority.create)
    small.cluster.journal.clear()
    assert stored_authority(small.cluster, small.settings, LocalAuthority.create) == first
    assert not small.cluster.journal, "a process that finds it writes nothing"
    assert not caplog.records
    secret = Ref("Secret", "ops", AUTHORITY)
    small.cluster.delete(secret, (small.cluster.get(secret) or {})["metadata"]["uid"])
    with caplog.at_level(logging.WARNING):
        second = stored_authority(small.cluster, small.settings, LocalAuthority.create)
    assert second != first
    assert "Secret ops/volatile-rse-ca holds another authority than before" in caplog.text
    assert (small.cluster.get(Ref("ConfigMap", "ops", AUTHORITY)) or {})["data"]["ca.crt"] == second[0]
