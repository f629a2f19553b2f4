"""What happens to a user's dataset while a session runs that is to write to it."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Sequence

import pytest

from tests.unit.reconcile.small_world import OUT, Small
from volatile_rse.api.conditions import Reason
from volatile_rse.domain import effects as do
from volatile_rse.domain.catalogue import Did, File
from volatile_rse.ports.errors import UnreachableError


def closed(small: Small) -> None:
    small.catalogue.ensure_dataset(OUT, "alice", "another")
    small.catalogue.close(OUT)


def somebody_elses(small: Small) -> None:
    small.catalogue.ensure_dataset(OUT, "bob", "another")


def ended(small: Small) -> None:
    small.start_pod()
    small.step()
    small.write("kept/a", "kept/b")
    small.end_pod()


@pytest.mark.parametrize(
    ("happens", "said"), [(closed, "is closed"), (somebody_elses, "belongs to account 'bob', not to 'alice'")]
)
def test_a_dataset_that_changes_after_the_session_began_gets_nothing(
    happens: Callable[[Small], None], said: str
) -> None:
    small = Small()
    small.request(teardown={"deadline": "10s"})
    small.until(small.has_session)
    happens(small)
    ended(small)
    small.until(lambda: small.condition("OutputsSafe").get("reason") == "DatasetRefused")
    message = small.condition("OutputsSafe")["message"]
    assert f"user.alice:out {said}" in message
    assert "USER must act" in message
    small.until(lambda: small.truth.get("quarantinedAt"))
    assert small.truth["filesAtRisk"] == 2
    assert said in small.condition("OutputsSafe")["message"], "in quarantine, too"
    assert not any(isinstance(effect, do.Copy) for effect in small.applied)
    assert not small.catalogue.registered(OUT)


def test_one_refused_dataset_does_not_keep_the_others_back_and_is_taken_once_it_is_open() -> None:
    small = Small()
    other = {"name": "more", "path": "more/**", "scope": OUT.scope, "dataset": "more"}
    kept = {"name": "kept", "path": "kept/**", "scope": OUT.scope, "dataset": OUT.name}
    small.request(outputs=[one | {"destination": {"rseExpression": "SITE-B"}} for one in (kept, other)])
    small.until(small.has_session)
    closed(small)
    small.start_pod()
    small.step()
    small.write("kept/a", "more/b")
    small.end_pod()
    more = Did(OUT.scope, "more")
    small.until(lambda: small.is_kept("more/b", dataset=more))
    assert not small.truth.get("safeAt")
    small.catalogue.open(OUT)
    small.until(small.is_closed, 150)
    assert small.is_kept("kept/a")


def test_of_two_sessions_that_both_want_a_new_dataset_one_has_it() -> None:
    first, second = Small(), Small()
    second.catalogue = first.catalogue
    for small in (first, second):
        small.request(outputs=[KEPT | {"ifExists": "Fail"}])
        small.until(small.has_session)
    for small in (first, second):
        ended(small)
    for _ in range(20):
        first.step()
        second.step()
    assert first.is_closed()
    assert second.condition("OutputsSafe")["reason"] == "DatasetRefused"
    assert first.is_kept("kept/a", "kept/b")
    assert len(first.catalogue.resolve(OUT)) == 2
    assert not second.truth.get("safeAt")


def test_the_same_version_is_kept_only_where_it_is_to_be() -> None:
    small = Small()
    older = File(Did(OUT.scope, "out.bbbbbbbbbb.kept--a"), 6, f"{zlib.adler32(b'kept/a'):08x}")
    small.catalogue.ensure_dataset(OUT, "alice", "bbbbbbbbbb")
    small.catalogue.attach(OUT, "SITE-A", [older])
    small.begin()
    small.write("kept/a")
    small.end_pod()
    small.until(lambda: small.condition("OutputsSafe").get("reason") == "VersionExists")
    said = small.condition("OutputsSafe")["message"]
    assert "those are not at the destination of this one: kept/a (as user.alice:out.bbbbbbbbbb.kept--a)" in said
    for _ in range(5):
        small.step()
    assert not small.truth.get("safeAt")
    small.catalogue.attach(OUT, "SITE-B", [older])
    small.until(small.is_closed)
    assert small.catalogue.content(OUT) == (older,)
    assert small.catalogue.unsafe([older], ["SITE-B"]) == ()
    assert small.truth["outcome"]["files"] == 1


def test_a_copy_that_another_session_forestalled_is_named() -> None:
    small = Small()
    small.request()
    small.until(small.has_session)
    attach, sent = small.catalogue.attach, list[str]()

    def forestalled(dataset: Did, rse: str, files: Sequence[File]) -> None:
        if not sent:
            # Of another cluster, in the moment before: this one's file is at its destination already.
            sent.extend(small.buffer.sites)
            attach(dataset, rse, [dataclasses.replace(files[0], did=Did(OUT.scope, "out.bbbbbbbbbb.kept--a"))])
            raise UnreachableError(Reason.CATALOGUE_UNREACHABLE, "the call never arrived")
        attach(dataset, rse, files)

    small.catalogue.attach = forestalled  # type: ignore[method-assign]
    small.start_pod()
    small.step()
    small.write("kept/a")
    small.end_pod()
    small.until(small.is_closed)
    assert len(small.catalogue.content(OUT)) == 1
    assert small.truth["outcome"]["files"] == 1
    assert [text.rsplit(" ", 1)[1] for text in small.truth["outcome"]["exceptions"]] == sent


def test_a_session_is_warned_of_a_published_path_that_its_dataset_has() -> None:
    small = Small()
    small.catalogue.ensure_dataset(OUT, "alice", "bbbbbbbbbb")
    small.catalogue.attach(OUT, "SITE-B", [File(Did(OUT.scope, "out.bbbbbbbbbb.kept--a"), 7, "00000007")])
    small.publish_and_keep("kept/b")
    small.buffer.publish(small.uid, "kept/a", b"another version")
    small.until(lambda: small.condition("SessionActive").get("reason") == "VersionExists")
    assert small.condition("Usable")["status"] == "True"


KEPT = {
    "name": "kept", "path": "kept/**", "scope": OUT.scope, "dataset": OUT.name,
    "destination": {"rseExpression": "SITE-B"},
}  # fmt: skip
