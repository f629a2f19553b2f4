from __future__ import annotations

import dataclasses
import json
import logging

import pytest

import volatile_rse.__main__ as operator
from tests.unit.reconcile.small_world import LOGIN, REQUEST, Small
from volatile_rse.adapters.fake_catalogue import FakeCatalogue
from volatile_rse.adapters.kubernetes import KubernetesCluster
from volatile_rse.builders.objects import record_name
from volatile_rse.domain.catalogue import Did, LedgerOwner
from volatile_rse.ports.cluster import Ref
from volatile_rse.ports.errors import UnreachableError
from volatile_rse.reconcile.connections import Connections
from volatile_rse.reconcile.orphans import Orphan, orphans_of
from volatile_rse.reconcile.searching import Search, _Readable, search
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


def test_a_volume_that_has_outlived_everything_else_is_listed() -> None:
    small = with_session()
    lose_record(small)
    for kind in ("Pod", "PersistentVolumeClaim", "Service", "Secret", "ConfigMap"):
        for body in small.cluster.list(kind, "bufs"):
            small.cluster.delete(Ref(kind, "bufs", body["metadata"]["name"]), body["metadata"]["uid"])
    (volume,) = small.cluster.list("PersistentVolume")
    assert Orphan(small.record_id, f"PersistentVolume {volume['metadata']['name']}") in found(small)


@pytest.mark.parametrize("wrong", ["down", "another's login", "no login", "unreadable"])
def test_one_connection_that_says_nothing_hides_no_other(wrong: str, caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    small = with_session(telemetry=metrics)
    lose_record(small)
    before = found(small)
    good = small.cluster.get(Ref("RucioConnection", None, "rucio")) or {}
    bad = {**good["spec"], "server": "https://bad.example.org"}
    changes: dict[str, dict[str, object]] = {
        "down": {"userpass": {"secretName": "bad"}},
        "another's login": {},
        "no login": {"userpass": {"secretName": "none"}},
        "unreadable": {"colour": "blue"},
    }
    bad |= changes[wrong]
    login = {"metadata": {"namespace": "ops", "name": "bad"}, "stringData": LOGIN | {"server": bad["server"]}}
    small.cluster.create({"apiVersion": "v1", "kind": "Secret", **login})
    small.cluster.create({**good, "metadata": {"name": "bad"}, "spec": bad})
    down = FakeCatalogue()
    down.down = True
    world = dataclasses.replace(
        small.world(), connect=lambda login: down if "bad" in login.connection.server else small.catalogue
    )
    result = search(world, Connections(world), small.settings.instance)
    assert set(before) <= set(result.orphans)
    assert str(small.ledger) in " ".join(map(str, result.orphans))
    (why,) = result.silent
    told = {"down": "it is down", "another's login": "Secret ops/login is for", "no login": "Secret ops/none"}
    assert {**told, "unreadable": "spec.colour"}[wrong] in why
    with caplog.at_level(logging.WARNING):
        Service(world, threads=0).search()
    assert metrics.registry.get_sample_value("volatile_rse_orphans") == len(result.orphans)
    assert metrics.registry.get_sample_value("volatile_rse_faults_total", {"where": "search"}) == 1
    assert f"there may be more: {why}" in caplog.text


def test_a_class_that_cannot_be_read_is_left_out_of_a_search() -> None:
    small = with_session()
    small.cluster.merge(Ref("VolatileRSEClass", None, "standard"), {"spec": {"colour": "blue"}})
    noted: list[str] = []
    readable = _Readable(small.cluster, lambda error, _about: noted.append(str(error)))
    assert readable.list("VolatileRSEClass") == ()
    assert "spec.colour" in noted[0]
    assert readable.list("RSERecord") == small.cluster.list("RSERecord")
    assert readable.get(REQUEST) is not None


def test_the_command_lists_what_it_can_and_says_that_it_is_not_all(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    orphan = Orphan("abc", "ledger x")
    monkeypatch.setattr(operator, "search", lambda *_: Search((orphan,), ("Rucio is down.",)))
    monkeypatch.setattr(KubernetesCluster, "connect", lambda: None)
    monkeypatch.setattr(operator, "_settings", lambda _cluster: Small(inputs=0).settings)
    monkeypatch.setattr(operator, "_world", lambda *_: Small(inputs=0))
    assert operator._list_orphans(None, "text") == 1
    said = capsys.readouterr()
    assert said.out == f"{orphan}\n"
    assert said.err == "The list is not complete: Rucio is down.\n"
    monkeypatch.setattr(operator, "search", lambda *_: Search((orphan,), ()))
    assert operator._list_orphans(None, "json") == 0
    assert json.loads(capsys.readouterr().out) == [{"record": "abc", "what": "ledger x"}]
