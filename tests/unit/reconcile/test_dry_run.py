"""A dry run is judged by what judges every request, and nothing is made for it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.unit.reconcile.small_world import REQUEST, Small
from volatile_rse.domain.catalogue import Did, File
from volatile_rse.ports.cluster import Ref
from volatile_rse.reconcile.gather import previewing

CLASS = Ref("VolatileRSEClass", None, "standard")


def dry(small: Small, **spec: object) -> None:
    small.request(dryRun=True, **spec)
    for _ in range(3):
        small.step()


def preview(small: Small) -> dict[str, Any]:
    return dict((small.cluster.get(REQUEST) or {})["status"].get("preview") or {})


def condition(small: Small, type_: str) -> dict[str, Any]:
    entries = (small.cluster.get(REQUEST) or {})["status"]["conditions"]
    return next(entry for entry in entries if entry["type"] == type_)


def nothing_is_made(small: Small) -> bool:
    """Tell whether nobody has anything of it but the request itself, and nobody holds that."""
    body = small.cluster.get(REQUEST) or {}
    made = [
        found for kind in ("RSERecord", "Pod", "Service", "PersistentVolumeClaim") for found in small.cluster.list(kind)
    ]
    ours = [found for found in small.cluster.list("Secret") if found["metadata"]["namespace"] != "ops"]
    held = [found for found in (body, small.cluster.get(CLASS) or {}) if found["metadata"].get("finalizers")]
    return not (made or ours or held or small.catalogue.has_rse(f"VRSE-{small.record_id.upper()}"))


def test_what_would_come_of_a_request_is_told() -> None:
    small = Small(inputs=3)
    dry(small)
    told = preview(small)
    assert told["refused"] == []
    (entry,) = told["inputs"]
    assert entry == {
        "name": "in",
        "files": 3,
        "bytes": 303,
        "unusable": 0,
        "sources": [{"host": "site-a.example.org", "files": 3}],
    }
    assert told["outputs"] == [{"name": "kept", "rses": ["SITE-B"]}]
    assert "readySeconds" not in told
    ready = condition(small, "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "NotNeeded")
    assert nothing_is_made(small)


def _no_did(small: Small) -> None:
    small.catalogue.detach(Did("user.alice", "in"), Did("user.alice", "in.0"))
    small.catalogue.detach(Did("user.alice", "in"), Did("user.alice", "in.1"))


def _quota(small: Small) -> None:
    small.catalogue.quota["alice", "SITE-B"] = 0


def _no_grant(small: Small) -> None:
    small.cluster.merge(CLASS, {"spec": {"tenancy": {"grants": []}}})


def _full(small: Small) -> None:
    small.cluster.merge(CLASS, {"spec": {"limits": {"perNamespace": {"bytes": "1Mi"}}}})


def _no_token(small: Small) -> None:
    small.cluster.merge(CLASS, {"spec": {"siteCredentials": {"secretName": "none"}}})


def _too_large(small: Small) -> None:
    small.catalogue.add_files(Did("user.alice", "in"), "SITE-A", [File(Did("user.alice", "big"), 1 << 40, "00000009")])


@pytest.mark.parametrize(
    ("wrong", "reason", "words"),
    [
        (_no_did, "DIDNotFound", "user.alice:in"),
        (_quota, "QuotaExceeded", "SITE-B"),
        (_no_grant, "AccountNotGranted", "alice"),
        (_full, "LimitExceeded", "1Mi"),
        (_no_token, "CredentialMissing", "ops/none"),
        (_too_large, "InputsTooLarge", "spec.capacity is 1Gi"),
    ],
)
def test_what_would_be_refused_is_told_with_who_must_act(
    wrong: Callable[[Small], None], reason: str, words: str
) -> None:
    small = Small()
    wrong(small)
    dry(small)
    (refused, *_) = preview(small)["refused"]
    assert words in refused
    assert " must act: " in refused
    assert condition(small, "Ready")["reason"] == reason
    assert nothing_is_made(small)


def test_the_size_of_the_inputs_is_told_whatever_else_is_wrong() -> None:
    small = Small()
    _quota(small)
    dry(small)
    assert preview(small)["inputs"][0]["bytes"] == 201
    assert preview(small)["outputs"] == []


def test_it_is_looked_at_once_and_stays_as_it_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Small()
    _quota(small)
    dry(small)
    before, looks = small.cluster.get(REQUEST), list[str]()
    small.catalogue.quota.clear()
    small.forget()
    small.clock.turn(timedelta(minutes=5))
    monkeypatch.setattr(previewing, "previewed", lambda *_: looks.append("again"))
    for _ in range(3):
        small.step()
    assert small.cluster.get(REQUEST) == before
    assert looks == []


def test_nothing_is_told_while_rucio_does_not_answer() -> None:
    small = Small()
    small.catalogue.down = True
    dry(small)
    assert preview(small) == {}
    assert condition(small, "Ready")["reason"] == "CatalogueUnreachable"
    small.catalogue.down = False
    small.step()
    assert preview(small)["refused"] == []
    assert nothing_is_made(small)


def test_what_buffers_of_the_class_have_taken_is_what_it_would_take() -> None:
    small = Small()
    small.begin()
    small.end_pod()
    small.until(small.is_closed)
    record = small.record
    took = small.cluster.list("RSERecord")
    assert record
    assert took
    body = small.cluster.get(REQUEST) or {}
    small.cluster.delete(REQUEST, body["metadata"]["uid"])
    small.step()
    dry(small)
    told = preview(small)
    assert told["like"] == 1
    assert 0 < told["readySeconds"] < 30


def test_a_dry_run_goes_at_once() -> None:
    small = Small()
    dry(small)
    small.delete()
    assert small.cluster.get(REQUEST) is None


def test_a_dry_run_that_cannot_be_read_is_no_session() -> None:
    small = Small()
    small.request(dryRun=True)
    small.cluster.merge(REQUEST, {"spec": {"dryRun": "perhaps"}})
    for _ in range(3):
        small.step()
    assert condition(small, "Ready")["reason"] == "InvalidSpec"
    assert nothing_is_made(small)
