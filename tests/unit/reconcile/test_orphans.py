from __future__ import annotations

import logging

import pytest

from tests.unit.reconcile.small_world import Small
from volatile_rse.builders.objects import record_name
from volatile_rse.domain.catalogue import Did, LedgerOwner
from volatile_rse.ports.cluster import Ref
from volatile_rse.ports.errors import UnreachableError
from volatile_rse.reconcile.connections import Connections
from volatile_rse.reconcile.orphans import Orphan, orphans_of
from volatile_rse.reconcile.service import Service
from volatile_rse.telemetry.metrics import Metrics


def found(small: Small, instance: str | None = None) -> tuple[Orphan, ...]:
    return orphans_of(small.world(), Connections(small.world()), instance or small.settings.instance)


def with_session(**options: object) -> Small:
    small = Small(inputs=0, **options)  # type: ignore[arg-type]
    small.request()
    small.until(small.has_session)
    return small


def lose_record(small: Small) -> None:
    ref = Ref("RSERecord", None, record_name(small.record_id))
    small.cluster.merge(ref, {"metadata": {"finalizers": None}})
    small.cluster.delete(ref, small.record["metadata"]["uid"])


def test_what_has_a_record_is_no_orphan() -> None:
    assert found(with_session()) == ()


def test_ledger_and_objects_without_record_are_listed_and_stay() -> None:
    small = with_session()
    lose_record(small)
    before = small.leftovers()
    orphans = found(small)
    assert {orphan.record_id for orphan in orphans} == {small.record_id}
    listed = " ".join(str(orphan) for orphan in orphans)
    for what in (f"ledger {small.ledger} ", "Pod bufs/vrse-", "PersistentVolumeClaim bufs/", "Service bufs/"):
        assert what in listed
    assert small.leftovers() == before
    assert small.catalogue.ledger_exists(small.ledger)


def test_ledgers_of_a_lost_cluster_are_listed_by_its_instance() -> None:
    small = with_session()
    small.catalogue.ensure_ledger(Did("vrse", "vrse-old.ledger"), LedgerOwner("test.lost", "old"))
    assert found(small) == ()
    assert [orphan.record_id for orphan in found(small, "test.lost")] == ["old"]


def test_orphans_are_counted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    small = with_session(telemetry=metrics)
    lose_record(small)
    with caplog.at_level(logging.WARNING):
        Service(small.world(), threads=0).search()
    assert metrics.registry.get_sample_value("volatile_rse_orphans") == len(found(small)) > 0
    assert str(small.ledger) in caplog.text


def test_a_list_that_is_not_complete_is_none() -> None:
    small = with_session()
    small.catalogue.down = True
    with pytest.raises(UnreachableError):
        found(small)
