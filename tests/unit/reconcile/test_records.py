from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.unit.reconcile.small_world import Small
from volatile_rse.api.rserecord import RSERecordSpec
from volatile_rse.builders.objects import name_of, record_name
from volatile_rse.builders.storage import inputs_maps
from volatile_rse.domain.catalogue import Did, File
from volatile_rse.domain.facts import Piece
from volatile_rse.ports.cluster import Ref


def test_a_record_that_somebody_deletes_stays_until_its_buffer_is_gone() -> None:
    small = Small()
    small.begin()
    small.write("kept/a")
    small.cluster.delete(Ref("RSERecord", None, record_name(small.record_id)), small.record["metadata"]["uid"])
    small.step()
    assert small.record, "the truth about a buffer with outputs was deleted"
    small.end_pod()
    small.until(small.is_closed)
    for _ in range(3):
        small.step()
    assert small.is_closed(), "a VolatileRSE that is completed ran again"
    small.delete()
    small.until(lambda: not small.record)
    assert small.is_kept("kept/a")
    assert not small.catalogue.has_rse(small.rse)
    assert small.leftovers() == []


def test_a_closed_record_is_held_by_nothing() -> None:
    small = Small(inputs=0)
    small.request()
    small.until(small.has_session)
    small.delete()
    small.until(small.is_closed)
    small.until(lambda: small.is_gone)
    small.step()
    assert not small.record["metadata"].get("finalizers")


def test_a_list_that_is_gone_is_not_made_of_other_files() -> None:
    small = Small()
    small.request()
    small.until(small.has_session)
    listed = Ref("ConfigMap", "bufs", name_of(small.record_id, Piece.INPUTS))
    small.cluster.delete(listed, (small.cluster.get(listed) or {})["metadata"]["uid"])
    small.catalogue.add_files(Did("user.alice", "in"), "SITE-A", [File(Did("user.alice", "in.new"), 5, "00000005")])
    small.until(lambda: "InputsChanged" in str(small.condition("Stalled")))
    assert small.cluster.get(listed) is None
    assert f"ConfigMap bufs/{listed.name} is gone or was changed" in small.condition("Stalled")["message"]
    assert small.has_session(), "what is staged stays usable"
    small.delete()
    small.until(small.is_closed)


def test_certificates_are_renewed_and_the_key_of_the_sessions_tokens_is_not() -> None:
    small = Small(inputs=0)
    small.request()
    small.until(small.has_session)
    ref = Ref("Secret", "bufs", name_of(small.record_id, Piece.KEYS))
    before: Any = small.cluster.get(ref)
    small.fail_copies(steps=100)
    small.start_pod()
    small.until(lambda: small.truth["session"].get("startedAt"))
    small.write("kept/a")
    small.clock.turn(timedelta(days=61))
    small.until(lambda: (small.cluster.get(ref) or {})["metadata"]["annotations"] != before["metadata"]["annotations"])
    after: Any = small.cluster.get(ref)
    changed = {key for key in before["data"] if after["data"][key] != before["data"][key]}
    assert after["data"].keys() == before["data"].keys()
    assert changed == {"server.tls.crt", "server.tls.key", "agent.tls.crt", "agent.tls.key"}


@pytest.mark.parametrize("forged", [True, False], ids=["other files", "nonsense"])
def test_a_list_that_somebody_has_changed_is_made_anew(forged: bool) -> None:  # noqa: FBT001 (a parameter)
    small = Small()
    small.request()
    small.until(small.has_session)
    ref = Ref("ConfigMap", "bufs", name_of(small.record_id, Piece.INPUTS))
    honest = small.cluster.get(ref) or {}
    theirs = {"in": [File(Did("user.bob", "secret"), 5, "00000005")]}
    spec = RSERecordSpec.model_validate(small.record["spec"])
    data = inputs_maps(small.settings, spec, theirs)[-1]["binaryData"] if forged else {"inputs.jsonl.gz": "AAAA"}
    small.cluster.merge(ref, {"binaryData": data})
    small.until(lambda: (small.cluster.get(ref) or {}).get("binaryData") == honest["binaryData"])
    assert small.has_session()
    small.delete()
    small.until(small.is_closed)
