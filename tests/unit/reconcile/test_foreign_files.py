"""Rights are judged by the files that a name resolves to."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tests.unit.reconcile.small_world import OUT, REQUEST, Small
from volatile_rse.builders.objects import name_of
from volatile_rse.builders.session import store_path
from volatile_rse.domain.catalogue import Did, File
from volatile_rse.domain.facts import Piece
from volatile_rse.ports.cluster import Ref
from volatile_rse.reconcile.reading import uid_of

IN, CONTAINER = Did("user.alice", "in"), Did("user.alice", "all")
BOBS = File(Did("user.bob", "secret"), 7, "00000007")
CLASS = Ref("VolatileRSEClass", None, "standard")


def attached(*files: File) -> Small:
    """Let alice attach files of anybody to a dataset of hers, as Rucio lets her."""
    small = Small()
    small.catalogue.add_files(Did("user.bob", "own"), "SITE-A", files)
    small.catalogue.attach_files(IN, [file.did for file in files])
    return small


def granting(small: Small, scopes: Sequence[str], read: Sequence[str] = ()) -> None:
    grant = {"namespaces": ["alice"], "accounts": ["alice"], "scopes": list(scopes), "readScopes": list(read)}
    small.cluster.merge(CLASS, {"spec": {"tenancy": {"grants": [grant]}}})


def is_refused(small: Small, reason: str) -> str:
    small.until(lambda: small.condition("Stalled").get("reason") == reason)
    return str(small.condition("Stalled")["message"])


def fetched(small: Small) -> list[str]:
    return [str(Did(state.scope, state.name)) for state in small.buffer.inputs().items]


def rights_of(small: Small) -> list[str]:
    secret = small.cluster.get(Ref("Secret", "alice", "run-vrse"))
    token = base64.b64decode((secret or {})["data"]["token"]).decode()
    payload = token.split(".")[1]
    claims: Mapping[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return [
        right
        for right in str(claims["scope"]).split()
        if right.startswith("storage.read:/store") and ".session" not in right
    ]


def test_a_foreign_file_in_an_own_dataset_is_refused_by_name_and_never_fetched() -> None:
    small = attached(BOBS)
    small.request()
    said = is_refused(small, "ScopeNotGranted")
    assert "spec.inputs[in]: user.alice:in: 1 of 3 files are in scopes that class 'standard' does not grant" in said
    assert "to namespace 'alice' with account 'alice': user.bob (1 file: user.bob:secret)" in said
    for _ in range(20):
        small.step()
    assert "inputs" not in small.truth
    assert fetched(small) == []


def test_a_grant_that_is_given_later_counts() -> None:
    small = attached(BOBS)
    small.request()
    is_refused(small, "ScopeNotGranted")
    granting(small, ["user.alice"], ["user.b*"])
    small.until(small.has_session)
    assert "user.bob:secret" in fetched(small)


def test_a_session_reads_the_files_of_every_scope_that_its_dataset_holds() -> None:
    small = attached(BOBS)
    granting(small, ["user.alice"], ["user.bob"])
    small.request()
    small.until(small.has_session)
    assert small.truth["scopes"] == ["user.alice", "user.bob"]
    assert rights_of(small) == ["storage.read:/store/user/alice", "storage.read:/store/user/bob"]
    assert small.buffer.holds(store_path(BOBS.did))


def test_a_token_reads_no_scope_of_a_mere_container() -> None:
    small = Small()
    small.catalogue.add_files(Did("user.bob", "own"), "SITE-A", [BOBS])
    small.catalogue.add_container(CONTAINER, [Did("user.bob", "own")])
    granting(small, ["user.alice", "user.bob"])
    small.request(inputs=[{"name": "in", "did": str(CONTAINER)}])
    small.until(small.has_session)
    assert rights_of(small) == ["storage.read:/store/user/bob"]


def test_a_token_that_is_made_again_without_the_list_has_the_same_rights() -> None:
    small = attached(BOBS)
    granting(small, ["user.alice"], ["user.bob"])
    small.request()
    small.until(small.has_session)
    before = rights_of(small)
    small.catalogue.detach(IN, BOBS.did)
    small.drop(Piece.INPUTS)
    for kind in ("ConfigMap", "Secret"):
        ref = Ref(kind, "alice", "run-vrse")
        small.cluster.delete(ref, uid_of(small.cluster.get(ref) or {}))
    small.cluster.merge(REQUEST, {"metadata": {"annotations": {"looked-at": "now"}}})
    small.until(small.has_session)
    assert rights_of(small) == before


def test_a_grant_to_read_lets_no_output_in() -> None:
    small = Small()
    granting(small, ["user.bob"], ["user.alice"])
    small.request()
    said = is_refused(small, "ScopeNotGranted")
    assert f"scope {OUT.scope!r} to namespace 'alice' with account 'alice' to write" in said


def test_a_lost_list_is_made_up_for_only_by_files_that_are_still_granted() -> None:
    small = attached(BOBS)
    granting(small, ["user.alice"], ["user.bob"])
    small.unreadable = {store_path(BOBS.did): "HTTP 503"}
    small.request()
    small.until(lambda: small.truth.get("inputs") and small.buffer.inputs().items)
    granting(small, ["user.alice"])
    small.drop(Piece.INPUTS)
    is_refused(small, "ScopeNotGranted")
    where = Ref("ConfigMap", small.settings.buffers, name_of(small.record_id, Piece.INPUTS))
    assert small.cluster.get(where) is None
    granting(small, ["user.alice"], ["user.bob"])
    small.unreadable = {}
    small.until(small.has_session, 120)


def test_a_path_that_somebody_chose_is_no_source_unless_the_admin_trusts_the_rse() -> None:
    small = Small()
    mine = File(Did("user.alice", "trick"), BOBS.bytes, BOBS.adler32)
    host = "site-a.example.org"
    small.catalogue.add_elsewhere("SCRATCH", host, IN, mine, f"davs://{host}:8443{store_path(BOBS.did)}")
    small.request()
    said = is_refused(small, "NoReplica")
    assert "1 of 3 files have no replica on a permanent RSE of '*', for example user.alice:trick" in said
    assert "nonDeterministicSources" in said
    assert fetched(small) == []
    trusting = Small()
    trusting.catalogue.add_elsewhere("SCRATCH", host, IN, mine, f"davs://{host}:8443/store/elsewhere")
    trusting.cluster.merge(CLASS, {"spec": {"nonDeterministicSources": ["SCRATCH"]}})
    trusting.request()
    trusting.until(trusting.has_session)


@pytest.mark.parametrize("name", ["a/../b", "a/./b", "x\ty"])
def test_a_file_whose_name_is_no_path_is_refused_before_a_byte_moves(name: str) -> None:
    small = Small()
    small.catalogue.add_files(IN, "SITE-A", [File(Did("user.alice", name), 1, "00000001")])
    small.request()
    assert "for 1 of the input files: user.alice:" in is_refused(small, "InputUnplaceable")


def test_files_of_two_inputs_with_one_path_are_refused_before_a_byte_moves() -> None:
    small = Small()
    small.cluster.merge(CLASS, {"spec": {"naming": {"preset": "cms"}}})
    granting(small, ["user.alice"], ["user.alice.b", "user"])
    for scope, name in (("user.alice", "b/f"), ("user.alice.b", "f")):
        small.catalogue.add_files(Did(scope, "ds"), "SITE-A", [File(Did(scope, name), 1, "00000001")])
    asked = [{"name": "one", "did": "user.alice:ds"}, {"name": "two", "did": "user.alice.b:ds"}]
    small.request(inputs=asked, outputs=[])
    assert "user.alice.b:f has the path of user.alice:b/f" in is_refused(small, "InputUnplaceable")


@pytest.mark.parametrize("scopes", [300, 2000])
def test_a_container_of_many_scopes_is_usable_or_told_how_many_would_be(scopes: int) -> None:
    small = Small(inputs=1)
    granting(small, ["user.alice"], ["*"])
    members = []
    for number in range(scopes):
        scope = f"{'s' * 21}{number:04}"
        members.append(Did(scope, "ds"))
        small.catalogue.add_files(members[-1], "SITE-A", [File(Did(scope, "f"), 1, "00000001")])
    small.catalogue.add_container(CONTAINER, members)
    small.request(inputs=[{"name": "in", "did": str(CONTAINER)}])
    if scopes > 300:
        said = is_refused(small, "TooManyScopes")
        assert "The files of the inputs are in 2000 scopes" in said
        assert "has room for 21000, which is some 45" in said
    else:
        small.until(small.has_session)
        assert len(rights_of(small)) == scopes
