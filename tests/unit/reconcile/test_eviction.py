"""Which storage pods may not be evicted, and since when: those with bytes of a session that are nowhere else."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.reconcile.small_world import OUT, REQUEST, Small
from volatile_rse.api.conditions import Reason
from volatile_rse.builders.objects import AT_RISK, name_of
from volatile_rse.domain import effects as do
from volatile_rse.domain.catalogue import Did
from volatile_rse.domain.facts import Piece
from volatile_rse.ports.cluster import Ref
from volatile_rse.ports.errors import RefusedError


def labels(small: Small) -> dict[str, str]:
    pod = small.cluster.get(Ref("Pod", "bufs", name_of(small.record_id, Piece.POD)))
    return {} if pod is None else dict(pod["metadata"]["labels"])


def is_held(small: Small) -> bool:
    return labels(small).get(AT_RISK) == "true"


def marks(small: Small) -> list[do.Effect]:
    return [effect for effect in small.applied if isinstance(effect, do.HoldPod | do.FreePod)]


def of_durability(small: Small, durability: str) -> None:
    if durability == "Pod":
        small.use_memory()
    small.cluster.merge(Ref("VolatileRSEClass", None, "standard"), {"spec": {"durability": durability}})


@pytest.mark.parametrize("durability", ["Pod", "Node"])
def test_a_storage_pod_is_held_from_the_begin_of_its_session_until_its_outputs_are_safe(durability: str) -> None:
    small = Small()
    of_durability(small, durability)
    small.request()
    small.until(lambda: small.truth.get("phase") == "Serving" and labels(small))
    assert not is_held(small), "nothing but inputs is there, and they come again"
    small.until(small.has_session)
    assert is_held(small), "somebody may write from now on"
    small.start_pod()
    small.step()
    small.write("kept/a")
    small.fail_copies(1000)
    small.end_pod()
    for _ in range(20):
        small.step()
    assert small.truth["phase"] == "Keeping"
    assert is_held(small)
    small.fail_copies(1)
    small.until(lambda: small.truth.get("safeAt"))
    assert not is_held(small)
    small.until(small.is_closed)
    assert [type(mark) for mark in marks(small)] == [do.HoldPod, do.FreePod], "each is written once"


def test_a_volume_that_can_be_had_on_another_node_holds_none() -> None:
    small = Small()
    of_durability(small, "Network")
    small.begin()
    small.write("kept/a")
    small.end_pod()
    small.until(small.is_closed)
    assert marks(small) == []


def test_a_session_that_asks_for_nothing_to_be_kept_holds_no_node() -> None:
    small = Small()
    small.request(outputs=[])
    small.until(small.has_session)
    assert marks(small) == []


def test_a_session_that_has_written_nothing_holds_its_node_no_longer_than_its_end() -> None:
    small = Small()
    small.begin()
    assert is_held(small)
    small.end_pod()
    small.until(lambda: small.truth.get("safeAt"))
    assert not is_held(small)


def test_a_pod_that_is_made_anew_while_its_session_runs_is_held_from_birth() -> None:
    small = Small()
    small.begin()
    small.drop(Piece.POD)
    small.until(lambda: labels(small))
    assert is_held(small)
    assert len(marks(small)) == 1, "it was born with the label"


def test_what_others_have_taken_off_comes_again() -> None:
    small = Small()
    small.begin()
    small.cluster.merge(
        Ref("Pod", "bufs", name_of(small.record_id, Piece.POD)), {"metadata": {"labels": {AT_RISK: "false"}}}
    )
    small.step()
    assert is_held(small)


def test_a_label_that_cannot_be_written_keeps_no_session_from_begin_or_end(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Small()
    merge = small.cluster.merge

    def refusing(ref: Ref, patch: dict[str, object], *, subresource: str | None = None) -> Any:
        if ref.kind == "Pod" and AT_RISK in str(patch):
            raise RefusedError(Reason.CLUSTER_REFUSED, f"The API server refused PATCH {ref}: 403")
        return merge(ref, patch, subresource=subresource)

    monkeypatch.setattr(small.cluster, "merge", refusing)
    small.begin()
    assert "403" in small.message
    small.write("kept/a")
    small.end_pod()
    small.until(small.is_closed)
    assert small.is_kept("kept/a")


def test_a_pod_is_not_freed_upon_a_truth_that_could_not_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Small()
    small.begin()
    small.write("kept/a")
    small.end_pod()
    merge = small.cluster.merge
    refused: list[bool] = []

    def refusing(ref: Ref, patch: dict[str, object], *, subresource: str | None = None) -> Any:
        if ref.kind == "RSERecord" and "'safeAt': '" in str(patch) and len(refused) < 3:
            refused.append(is_held(small))
            raise RefusedError(Reason.CLUSTER_REFUSED, f"The API server refused PATCH {ref}: 403")
        return merge(ref, patch, subresource=subresource)

    monkeypatch.setattr(small.cluster, "merge", refusing)
    small.until(lambda: small.truth.get("safeAt"))
    assert refused == [True] * 3
    assert not is_held(small)


@pytest.mark.parametrize("what", ["output", "input"])
def test_the_last_copy_of_a_file_holds_its_node_until_there_is_another_one(what: str) -> None:
    small = Small()
    small.begin()
    small.write("kept/a")
    small.end_pod()
    small.until(lambda: small.truth.get("safeAt"))
    assert not is_held(small)
    dataset, site = (OUT, "SITE-B") if what == "output" else (Did("user.alice", "in"), "SITE-A")
    files = small.catalogue.resolve(dataset)
    small.catalogue.lose(site, files[0].did)
    small.buffer.sites.clear()
    small.until(lambda: small.condition("Stalled").get("reason", "").startswith("LastCopy"))
    assert is_held(small)
    small.catalogue.add_files(Did("user.alice", "again"), site, files[:1])
    small.until(small.is_closed)
    assert isinstance(marks(small)[-1], do.FreePod)


def test_while_rucio_is_silent_a_pod_stays_as_it_is() -> None:
    small = Small()
    small.begin()
    small.write("kept/a")
    small.cut_rucio(30)
    small.end_pod()
    for _ in range(20):
        small.step()
    assert is_held(small)
    small.until(small.is_closed, 120)


def test_an_owner_that_discards_frees_the_node() -> None:
    small = Small()
    small.begin()
    small.write("kept/a")
    small.given_up = ("kept/a",)
    small.fail_copies(1000)
    small.end_pod()
    small.until(lambda: small.truth.get("phase") == "Keeping")
    small.patch(REQUEST, teardown={"discard": {"rse": small.rse, "requestedBy": "alice"}})
    small.until(lambda: small.truth.get("safeAt"), 120)
    assert not is_held(small)
