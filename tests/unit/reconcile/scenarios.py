"""The ways in which a session may go; each one plays a small world to its end and says what must be true there."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import timedelta

from tests.unit.reconcile.small_world import OUT, REQUEST, Killed, Small
from volatile_rse.adapters.fake_buffer import FakeBuffer
from volatile_rse.builders import packed
from volatile_rse.builders.objects import discarded_name, name_of, record_name, session_name
from volatile_rse.builders.session import store_path
from volatile_rse.domain import effects as do
from volatile_rse.domain.catalogue import Did, File
from volatile_rse.domain.facts import Facts, Piece
from volatile_rse.domain.times import stamp
from volatile_rse.ports.cluster import Ref
from volatile_rse.reconcile.connections import Connections
from volatile_rse.reconcile.holding import release_unused
from volatile_rse.reconcile.world import World

Scenario = Callable[[Small], None]
FILES = ("kept/a", "kept/b")
SECOND = Did("user.alice", "second")
_IN = Did("user.alice", "in.0")
_LONG = 150


def _output(name: str, path: str, dataset: Did, expression: str, copies: int = 1) -> dict[str, object]:
    destination = {"rseExpression": expression, "copies": copies}
    return {"name": name, "path": path, "scope": dataset.scope, "dataset": dataset.name, "destination": destination}


def _play(small: Small, *paths: str, **spec: object) -> None:
    """Have a session that writes, and ends."""
    small.request(**spec)
    small.until(small.has_session, _LONG)
    small.start_pod()
    small.until(lambda: small.truth["session"].get("startedAt"))
    small.write(*paths)
    small.end_pod()


def _begins(small: Small) -> None:
    """Have a session that runs."""
    small.request()
    small.until(small.has_session)
    small.start_pod()
    small.until(lambda: small.truth["session"].get("startedAt"))


def _ends(small: Small) -> None:
    small.until(small.is_closed, _LONG)
    assert small.is_kept(*small.owed)


def comes_and_goes(small: Small) -> None:
    small.request()
    small.until(small.has_session)
    small.start_pod()
    small.step()
    small.write(*FILES, "other/c")
    small.end_pod()
    small.until(small.is_closed)
    assert small.condition("Ready")["reason"] == "Completed"
    assert small.condition("OutputsSafe")["status"] == "True"
    (told,) = (small.cluster.get(REQUEST) or {})["status"]["outputs"]
    assert (told["sealed"], told["safe"], told["bytesAtRisk"]) == (2, 2, 0)
    assert small.is_kept(*FILES)
    small.delete()
    small.until(lambda: small.is_gone)


def deleted_in_the_middle(small: Small) -> None:
    small.request()
    small.until(small.has_session)
    small.start_pod()
    small.step()
    small.write(*FILES)
    small.delete()
    small.until(small.is_closed)
    assert small.is_kept(*FILES)
    assert small.is_gone


def deleted_before_it_was_ready(small: Small) -> None:
    small.request()
    small.step()
    small.delete()
    small.until(small.is_closed_or_never)
    assert small.is_gone


def nobody_comes(small: Small) -> None:
    small.request(session={"startTimeout": "3s"}, inputs=[])
    small.until(small.is_closed)
    assert small.truth["session"]["endReason"] == "NobodyCame"


def in_memory(small: Small) -> None:
    small.use_memory()
    comes_and_goes(small)


def copies_fail_at_first(small: Small) -> None:
    small.request()
    small.until(small.has_session)
    small.start_pod()
    small.step()
    small.write(*FILES)
    small.end_pod()
    small.fail_copies(steps=4)
    small.until(small.is_closed, 120)
    assert small.is_kept(*FILES)


def it_is_given_longer(small: Small) -> None:
    small.request(session={"ttl": "20s", "endGrace": "1s"})
    small.until(small.has_session, _LONG)
    until = small.clock.now() + timedelta(seconds=30)
    small.patch(REQUEST, session={"extendUntil": stamp(until)})
    small.start_pod()
    small.until(lambda: small.truth["session"].get("startedAt"))
    small.write(*FILES)
    small.until(lambda: small.truth["session"].get("endedAt"))
    assert small.truth["session"]["endReason"] == "TtlExpired"
    assert small.clock.now() >= until, "it ended by its ttl"
    _ends(small)


def leases_hold_it(small: Small) -> None:
    small.request(session={"startTimeout": "10s", "endGrace": "1s"})
    small.until(small.has_session, _LONG)
    small.buffer.lease(small.uid, "queue", b"20s")
    small.until(lambda: small.truth["session"].get("startedAt"))
    ready = small.moment("session.readyAt")
    # What was seen counts while nobody can tell.
    small.buffer.down = True
    small.until(lambda: small.clock.now() > ready + timedelta(seconds=12))
    small.buffer.down = False
    small.buffer.lease(small.uid, "job", b"60s")
    small.until(lambda: small.clock.now() > ready + timedelta(seconds=30))
    assert "endedAt" not in small.truth["session"]
    assert small.condition("SessionActive")["status"] == "True"
    small.write(*FILES)
    small.buffer.release(small.uid, "job")
    _ends(small)
    assert small.truth["session"]["endReason"] == "PodsGone"
    assert small.moment("session.endedAt") < ready + timedelta(seconds=60), "it was held although nothing held it"


def its_job_outside_is_lost(small: Small) -> None:
    small.request(session={"endGrace": "1s"})
    small.until(small.has_session, _LONG)
    small.buffer.lease(small.uid, "job", b"30s")
    over = small.clock.now() + timedelta(seconds=30)
    small.until(lambda: small.truth["session"].get("startedAt"))
    small.write(*FILES)
    _ends(small)
    assert small.truth["session"]["endReason"] == "PodsGone"
    assert small.moment("session.endedAt") >= over


def it_is_deleted_when_it_is_finished(small: Small) -> None:
    _play(small, *FILES, ttlAfterFinished="30s")
    _ends(small)
    assert not small.is_gone
    small.until(lambda: small.is_gone)
    assert small.clock.now() >= small.moment("safeAt") + timedelta(seconds=30)


def without_outputs(small: Small) -> None:
    _play(small, "other/c", outputs=[])
    _ends(small)
    assert small.truth["outcome"]["files"] == 0


def the_first_match_takes_a_file(small: Small) -> None:
    outputs = [_output("kept", "kept/*", OUT, "SITE-B"), _output("rest", "**/*.root", SECOND, "SITE-A")]
    _play(small, "kept/a", "kept/b.root", "deep/er/c.root", "other/d", outputs=outputs)
    _ends(small)
    assert small.is_kept("deep/er/c.root", dataset=SECOND, rses=("SITE-A",))
    assert small.truth["outcome"]["files"] == 3


def two_copies(small: Small) -> None:
    small.destinations = ("SITE-A", "SITE-B")
    _play(small, *FILES, outputs=[_output("kept", "kept/**", OUT, "tier=2", copies=2)])
    _ends(small)


def an_input_of_no_bytes(small: Small) -> None:
    small.catalogue.add_files(Did("user.alice", "in"), "SITE-A", [File(Did("user.alice", "empty"), 0, "00000001")])
    comes_and_goes(small)


def a_rule_on_the_buffer_alone_is_ended(small: Small) -> None:
    small.request()
    small.until(small.has_session)
    rule = small.catalogue.add_rule(_IN, "bob", [small.rse])
    small.start_pod()
    small.until(lambda: small.truth["session"].get("startedAt"))
    small.write(*FILES)
    small.end_pod()
    _ends(small)
    assert rule not in small.catalogue.rules(_IN)


def a_rule_that_spans_is_respected(small: Small) -> None:
    small.request()
    small.until(small.has_session)
    rule = small.catalogue.add_rule(_IN, "bob", [small.rse, "SITE-A"])
    small.delete()
    small.until(lambda: rule in small.message)
    for _ in range(3):
        small.step()
    assert rule in small.catalogue.rules(_IN), "I3: somebody else's rule was ended"
    small.catalogue.expire_rule(rule)
    _ends(small)


def a_rule_comes_in_the_moment_of_the_hiding(small: Small) -> None:
    """Rucio hides replicas under a lock, too: between its word that there is none and the deed one may come."""
    small.request()
    small.until(small.has_session)
    rules: list[str] = []
    hide = small.catalogue.hide

    def hide_late(rse: str, files: Collection[Did]) -> None:
        hide(rse, files)
        if not rules:
            rules.append(small.catalogue.add_rule(_IN, "bob", [small.rse, "SITE-A"]))

    small.catalogue.hide = hide_late  # type: ignore[method-assign]
    small.delete()
    small.until(lambda: bool(rules) and rules[0] in small.message)
    for _ in range(3):
        small.step()
    assert not small.truth.get("freedAt"), "the bytes that a rule holds are given up"
    small.catalogue.expire_rule(rules[0])
    _ends(small)


def the_last_copy_is_on_the_buffer(small: Small) -> None:
    _begins(small)
    small.write(*FILES)
    small.catalogue.lose("SITE-A", _IN)
    small.end_pod()
    small.until(lambda: str(_IN) in small.message)
    assert small.condition("OutputsSafe")["status"] == "True", "it is an input that is at stake"
    assert small.condition("Stalled")["reason"] == "LastCopyOfInput"
    for _ in range(3):
        small.step()
    assert small.catalogue.replicas(small.rse, small.ledger)[_IN] == "A", "I1b: a last copy was hidden"
    small.catalogue.add_files(Did("user.alice", "in"), "SITE-A", [File(_IN, 100, "00000000")])
    _ends(small)


def rucio_is_away_at_every_stage(small: Small) -> None:
    small.at_each_stage = lambda world: world.cut_rucio(steps=3)
    _play(small, *FILES)
    _ends(small)


def rucio_goes_as_the_storage_is_freed(small: Small) -> None:
    """In the very visit in which it is written that the storage may go."""
    apply = small.apply

    def goes(world: World, connections: Connections, facts: Facts, effect: do.Effect) -> None:
        apply(world, connections, facts, effect)
        if isinstance(effect, do.Remember) and effect.status.freed_at and not effect.status.closed_at:
            small.cut_rucio(steps=3)

    small.apply = goes
    _play(small, *FILES)
    small.until(lambda: small.truth.get("freedAt"))
    _ends(small)


def what_answers_the_reaper_is_deleted(small: Small) -> None:
    """Rucio's reaper takes silence for no: it would be waited for without end."""
    apply = small.apply

    def goes(world: World, connections: Connections, facts: Facts, effect: do.Effect) -> None:
        apply(world, connections, facts, effect)
        if isinstance(effect, do.AllowDeletion):
            small.drop(Piece.SERVICE)
            for body in small.cluster.list("Deployment", "bufs"):
                small.cluster.delete(Ref("Deployment", "bufs", body["metadata"]["name"]), body["metadata"]["uid"])

    small.apply = goes
    _play(small, *FILES)
    _ends(small)


def the_agent_restarts_at_every_stage(small: Small) -> None:
    small.at_each_stage = lambda world: world.buffer.restart()
    _play(small, *FILES)
    _ends(small)


def the_operator_restarts_at_every_stage(small: Small) -> None:
    small.at_each_stage = Small.forget
    _play(small, *FILES)
    _ends(small)


def the_storage_pod_is_deleted(small: Small) -> None:
    _begins(small)
    small.write(*FILES)
    ref = Ref("Pod", "bufs", name_of(small.record_id, Piece.POD))
    small.drop(Piece.POD)
    small.buffer.restart()
    small.until(lambda: small.cluster.get(ref))
    small.end_pod()
    _ends(small)


def the_storage_pod_and_its_claim_are_deleted(small: Small) -> None:
    """The volume outlives them, and the next claim is bound to it."""
    small.fail_copies(steps=8)
    _play(small, *FILES)
    small.drop(Piece.POD, Piece.VOLUME)
    small.buffer.restart()
    _ends(small)
    assert not small.truth.get("losses"), "what was written is lost with a claim"


def the_namespace_goes(small: Small) -> None:
    _begins(small)
    small.write(*FILES)
    namespace = Ref("Namespace", None, "alice")
    small.cluster.delete(namespace, (small.cluster.get(namespace) or {})["metadata"]["uid"])
    _ends(small)
    small.until(lambda: small.cluster.get(namespace) is None)


def the_deadline_is_over(small: Small) -> None:
    """The VolatileRSE may go; its outputs are kept all the same."""
    small.fail_copies(steps=60)
    _play(small, *FILES, teardown={"deadline": "5s"})
    small.delete()
    small.until(lambda: small.is_gone)
    assert not small.truth.get("safeAt")
    _ends(small)


def _again(small: Small) -> None:
    """Have a second session, after a first one whose outputs are kept."""
    comes_and_goes(small)
    pod = Ref("Pod", "alice", "job")
    small.cluster.delete(pod, (small.cluster.get(pod) or {})["metadata"]["uid"])
    first = small.record_id
    small.renew()
    small.request()
    assert small.record_id != first
    small.until(small.has_session, _LONG)
    small.start_pod()
    small.until(lambda: small.truth["session"].get("startedAt"))


def a_second_session_writes_the_same_to_the_same_dataset(small: Small) -> None:
    """The dataset has these versions already: they are kept as they are, and only what is new comes to it."""
    _again(small)
    small.write(*FILES, "kept/c")
    small.end_pod()
    _ends(small)
    assert small.truth["outcome"]["files"] == 3
    assert len(small.catalogue.resolve(OUT)) == 3


def a_second_session_writes_another_version_to_the_same_dataset(small: Small) -> None:
    """It has one version of each path: the other one is told, and kept on the buffer until its owner decides."""
    _again(small)
    small.write(*FILES, "kept/c")
    small.buffer.write(small.uid, "kept/a", b"another version")
    small.end_pod()
    small.given_up = ("kept/a",)
    small.until(lambda: small.condition("OutputsSafe").get("reason") == "VersionExists", _LONG)
    assert "kept/a (as user.alice:out." in small.condition("OutputsSafe")["message"]
    small.until(lambda: small.is_kept("kept/c"))
    assert not small.truth.get("safeAt")
    small.patch(REQUEST, teardown=_discard(small))
    _ends(small)
    assert small.truth["discarded"]["files"] == 1
    assert small.truth["outcome"]["files"] == 2
    assert len(small.catalogue.resolve(OUT)) == 3
    (written,) = small.written_off
    assert written.copies == (), "copied, and its path was taken"


def the_older_version_is_taken_out(small: Small) -> None:
    _again(small)
    small.buffer.write(small.uid, "kept/a", b"another version")
    small.end_pod()
    small.until(lambda: small.condition("OutputsSafe").get("reason") == "VersionExists", _LONG)
    # Their owner wants the newer one now.
    small.written = ("kept/b",)
    (older,) = [file for file in small.catalogue.content(OUT) if file.did.name.endswith("kept--a")]
    small.catalogue.detach(OUT, older.did)
    _ends(small)
    (newer,) = [file for file in small.catalogue.content(OUT) if file.did.name.endswith("kept--a")]
    assert newer.bytes == len(b"another version")


def a_dataset_of_its_own(small: Small) -> None:
    """It must not exist; what it has made itself, also in another life, is no other's."""
    _play(small, *FILES, outputs=[_output("kept", "kept/**", OUT, "SITE-B") | {"ifExists": "Fail"}])
    _ends(small)


def another_session_takes_the_dataset_first(small: Small) -> None:
    """Both were told that it does not exist: one has it, and the other's outputs wait for a decision."""
    _play(small, *FILES, outputs=[_output("kept", "kept/**", OUT, "SITE-B") | {"ifExists": "Fail"}])
    small.catalogue.ensure_dataset(OUT, "alice", "another")
    small.until(lambda: small.condition("OutputsSafe").get("reason") == "DatasetRefused")
    assert not any(isinstance(effect, do.Copy) for effect in small.applied), "copied, and nobody takes it"
    assert not small.catalogue.registered(OUT)
    small.given_up = FILES
    small.patch(REQUEST, teardown=_discard(small))
    _ends(small)


def no_event_arrives(small: Small) -> None:
    """The sweep alone finds out, much later."""
    small.sweep_every = 7
    _play(small, *FILES)
    _ends(small)


def a_pod_that_nobody_saw_run(small: Small) -> None:
    small.request()
    small.until(small.has_session)
    small.start_pod()
    small.end_pod()
    small.write(*FILES)
    _ends(small)


def some_inputs_never_come(small: Small) -> None:
    """The session begins with as many as it needs, and the others stay away."""
    small.unreadable = {store_path(_IN): "HTTP 503"}
    small.request(inputs=[{"name": "in", "did": "user.alice:in", "minimumPercent": 50}])
    small.until(small.has_session)
    small.until(lambda: "HTTP 503" in small.condition("InputsStaged").get("message", ""))
    small.start_pod()
    small.until(lambda: small.truth["session"].get("startedAt"))
    small.write(*FILES)
    small.end_pod()
    _ends(small)


def some_inputs_have_no_source(small: Small) -> None:
    """The session begins without them, is told so, and gets them once there is one."""
    small.catalogue.lose("SITE-A", _IN)
    small.request(inputs=[{"name": "in", "did": "user.alice:in", "minimumPercent": 50}])
    small.until(small.has_session)
    small.start_pod()
    small.until(lambda: "Rucio lists no replica" in small.condition("InputsStaged").get("message", ""))
    small.catalogue.add_files(Did("user.alice", "in"), "SITE-A", [File(_IN, 100, "00000000")])
    small.clock.turn(timedelta(minutes=1))

    def has_come() -> bool:
        small.clock.turn(timedelta(minutes=1))
        return small.buffer.holds(store_path(_IN))

    small.until(has_come)
    small.write(*FILES)
    small.end_pod()
    _ends(small)


def the_agent_restarts_on_a_tight_volume(small: Small) -> None:
    """What has arrived of a file takes its space, and is not asked for again: there is room for the rest."""
    small.buffer = FakeBuffer(capacity=250)
    small.buffer.halfway = {store_path(Did("user.alice", "in.1")): 90}
    small.request(capacity="250")
    small.until(lambda: small.buffer.report().partial_bytes)
    small.buffer.restart()
    small.until(small.has_session)
    small.start_pod()
    small.until(lambda: small.truth["session"].get("startedAt"))
    small.write(*FILES)
    small.buffer.restart()
    small.end_pod()
    _ends(small)


def more_inputs_than_are_registered(small: Small) -> None:
    """All are staged and read; Rucio knows as many as the class allows, and the status says how many."""
    small.cluster.merge(Ref("VolatileRSEClass", None, "standard"), {"spec": {"maxRegisteredReplicas": 1}})
    _begins(small)
    assert len(small.catalogue.registered(small.ledger)) == 1
    (told,) = (small.cluster.get(REQUEST) or {})["status"]["inputs"]
    assert (told["files"], told["staged"], told["registered"]) == (2, 2, 1)
    small.write(*FILES)
    small.end_pod()
    small.until(lambda: len(small.catalogue.registered(small.ledger)) == 1 + len(FILES) or small.truth.get("safeAt"))
    _ends(small)


def there_is_no_quota_at_first(small: Small) -> None:
    """The request waits before anything is staged, and begins by itself once its account may lock something."""
    small.catalogue.quota["alice", "SITE-B"] = 0
    small.request()
    small.until(lambda: small.condition("Stalled").get("reason") == "QuotaExceeded")
    said = small.condition("Stalled")["message"]
    assert "SITE-B: 0 bytes are left by the limit of account 'alice' there, which is not set or 0" in said
    assert "USER must act" in said
    assert not small.cluster.list("Pod", "bufs"), "something is made for what cannot be kept"
    small.catalogue.quota["alice", "SITE-B"] = 1000
    small.until(small.has_session, _LONG)
    small.start_pod()
    small.until(lambda: small.truth["session"].get("startedAt"))
    small.write(*FILES)
    small.end_pod()
    _ends(small)


def the_quota_is_used_up_in_the_end(small: Small) -> None:
    """What was written is more than the account may lock: it is at its destination, and waits for its rule."""
    small.catalogue.quota["alice", "SITE-B"] = 7
    _play(small, *FILES)
    small.until(lambda: small.condition("OutputsSafe").get("reason") == "QuotaExceeded", _LONG)
    assert "USER must act" in small.condition("OutputsSafe")["message"]
    assert small.truth["filesAtRisk"] == len(FILES), "without a rule the destination may delete them"
    for _ in range(3):
        small.step()
    assert not small.truth.get("safeAt")
    small.catalogue.quota["alice", "SITE-B"] = 1000
    _ends(small)
    assert small.condition("OutputsSafe")["status"] == "True"


def its_owner_ends_it(small: Small) -> None:
    _begins(small)
    small.write(*FILES)
    small.patch(REQUEST, endRequested=True)
    _ends(small)
    assert small.truth["session"]["endReason"] == "Requested"


def _discard(small: Small, rse: str = "") -> dict[str, object]:
    return {"discard": {"rse": rse or small.rse, "requestedBy": "alice"}}


def one_file_is_refused(small: Small) -> None:
    """Somebody else has its name; the others are kept, and the owner gives it up."""
    _play(small, *FILES)
    name = Did("user.alice", f"out.{small.record_id}.kept--a")
    small.catalogue.add_files(Did("user.alice", "theirs"), "SITE-A", [File(name, 7, "00000007")])
    small.until(lambda: small.is_kept("kept/b") and small.condition("OutputsSafe").get("reason") == "CatalogueRefused")
    assert str(name) in small.condition("OutputsSafe")["message"]
    small.given_up = ("kept/a",)
    small.patch(REQUEST, teardown=_discard(small))
    _ends(small)
    assert small.truth["discarded"]["files"] == 1
    assert small.condition("Ready")["reason"] == "Completed"
    assert small.condition("OutputsSafe")["reason"] == "Discarded"
    assert small.catalogue.resolve(Did("user.alice", "theirs"))
    (written,) = small.written_off
    assert (written.path, written.copies) == ("kept/a", ()), "copied, and its name is another's"


def its_owner_discards(small: Small) -> None:
    small.fail_copies(steps=10_000)
    _play(small, *FILES, teardown={"deadline": "5s"})
    small.until(lambda: small.condition("OutputsSafe").get("reason") == "Quarantined", _LONG)
    assert small.truth["bytesAtRisk"] == sum(len(path) for path in FILES)
    small.patch(REQUEST, teardown=_discard(small, "VRSE-OTHER"))
    small.until(lambda: small.condition("Stalled").get("reason") == "DiscardRefused", _LONG)
    small.given_up = FILES
    small.patch(REQUEST, teardown=_discard(small))
    small.until(lambda: small.truth.get("discarded"), _LONG)
    # Somebody deletes the list of it: it is held as long as its record.
    listed = Ref("ConfigMap", "bufs", discarded_name(small.record_id))
    small.cluster.delete(listed, (small.cluster.get(listed) or {})["metadata"]["uid"])
    _ends(small)
    assert small.truth["discarded"] | {"at": "", "digest": ""} == {
        "requestedBy": "alice", "at": "", "files": 2, "bytes": 12, "digest": "",
    }  # fmt: skip
    assert len(small.discarded) == 2
    for file in small.written_off:
        did = Did.parse(file.did)
        assert file.copies == tuple(small.catalogue.pfns("SITE-B", [did]).values()), "sent, and nobody names it"
    small.delete()
    small.until(lambda: small.is_gone)
    small.step()
    assert small.cluster.get(listed) is None


def its_owner_discards_and_goes(small: Small) -> None:
    """The consent was seen: it is carried out without its VolatileRSE."""
    small.fail_copies(steps=10_000)
    _play(small, *FILES, teardown={"deadline": "5s"})
    small.until(lambda: small.truth.get("quarantinedAt"), _LONG)
    small.patch(REQUEST, teardown=_discard(small))
    small.until(lambda: (small.truth.get("steps") or {}).get("discarding"))
    assert not small.truth.get("discarded"), "there is a last try"
    small.may_go = True
    small.delete()
    small.until(lambda: small.is_gone)
    small.given_up = FILES
    _ends(small)
    assert small.truth["discarded"]["requestedBy"] == "alice"


def an_admin_discards(small: Small) -> None:
    """As long as there is a VolatileRSE its owner speaks for it; then the record carries on until an admin gives up."""
    small.fail_copies(steps=10_000)
    _play(small, *FILES, teardown={"deadline": "5s"})
    small.until(lambda: small.truth.get("quarantinedAt"), _LONG)
    small.patch(Ref("RSERecord", None, record_name(small.record_id)), **_discard(small))
    small.until(lambda: small.condition("Stalled").get("reason") == "DiscardRefused", _LONG)
    for _ in range(35):
        small.step()
    assert not small.truth.get("discarded"), "the owner was not asked"
    small.given_up = FILES
    small.may_go = True
    small.delete()
    small.until(lambda: small.is_gone)
    _ends(small)
    assert small.truth["discarded"]["requestedBy"] == "alice"


def a_buffer_that_never_answers_is_discarded(small: Small) -> None:
    """Only Rucio can say what is given up: the outputs that it knows nowhere else, and no input."""
    small.fail_copies(steps=10_000)
    _play(small, *FILES, teardown={"deadline": "5s"})
    small.until(lambda: len(small.catalogue.registered(small.ledger)) > len(FILES), _LONG)
    small.until(lambda: small.condition("OutputsSafe").get("reason") == "Quarantined", _LONG)
    small.buffer.down = True
    # Nor is there a list that tells its inputs.
    small.drop(Piece.INPUTS)
    small.given_up = FILES
    small.patch(REQUEST, teardown=_discard(small))
    _waits_in_vain(small)
    small.until(lambda: small.truth.get("discarded"), _LONG)
    assert {did.name.split(".")[0] for did in small.discarded} == {"out"}, "inputs have other copies"
    assert small.truth["discarded"]["files"] == len(FILES)
    _ends(small)


def an_inventory_that_never_comes_is_given_up(small: Small) -> None:
    """The agent answers, and cannot list what there is: that is waited for until the deadline."""
    small.buffer.unlisted = "Input/output error"
    _play(small, *FILES, teardown={"deadline": "90s"})
    small.until(lambda: (seal := small.buffer.report().seal) and seal.state == "failed")
    small.given_up = FILES
    small.patch(REQUEST, teardown=_discard(small))
    for _ in range(35):
        small.step()
    assert not small.truth.get("discarded"), "the inventory may still come"
    _waits_in_vain(small)
    _ends(small)
    assert "gave no list" in small.truth["outcome"]["exceptions"][0]
    assert small.truth["discarded"]["files"] == 0


def an_inventory_that_takes_its_time_is_waited_for(small: Small) -> None:
    """As long as it gets on, whatever deadline is over: what is given up has a whole list."""
    small.fail_copies(steps=10_000)
    small.buffer.sealing_steps = 10_000
    _play(small, *FILES, teardown={"deadline": "5s"})
    small.given_up = FILES
    small.patch(REQUEST, teardown=_discard(small))
    _waits_in_vain(small)
    small.clock.turn(timedelta(hours=9))
    for down in (False, False, True, True, False):
        # A moment's silence after hours is one as well.
        small.buffer.down = down
        small.step()
    assert not small.truth.get("discarded"), "its inventory has not ended"
    small.buffer.sealing_steps = 0
    small.until(lambda: small.truth["steps"].get("sealed"))
    small.until(lambda: small.buffer.copies().items)
    assert not small.truth.get("discarded"), "nothing of it was tried before"
    small.buffer.down = True
    small.clock.turn(timedelta(seconds=30))
    small.until(lambda: "silent" in small.truth["steps"])
    assert not small.truth.get("discarded"), "it is silent for a moment, just as its list is there"
    small.buffer.down = False
    _ends(small)
    assert [(file.path, bool(file.adler32)) for file in small.written_off] == [(path, True) for path in FILES]
    assert not any("gave no list" in told for told in small.truth["outcome"]["exceptions"])


def an_inventory_that_fails_in_the_end_is_given_up(small: Small) -> None:
    """Each time that it is begun it gets on for a while."""
    small.buffer.unlisted = "Input/output error"
    small.buffer.sealing_steps = 3
    _play(small, *FILES, teardown={"deadline": "5s"})
    small.given_up = FILES
    small.patch(REQUEST, teardown=_discard(small))

    def begins_anew() -> bool:
        seal = small.buffer.report().seal
        if seal is not None and seal.state == "failed":
            small.buffer.sealing_steps = 3
        return bool(small.truth.get("discarded"))

    small.until(lambda: begins_anew() or "unlisted" in small.truth["steps"], _LONG)
    small.clock.turn(timedelta(minutes=10))
    small.until(begins_anew)
    _ends(small)
    assert [file.path for file in small.written_off] == list(FILES)


def an_inventory_that_hangs_is_given_up(small: Small) -> None:
    """With all that it has found."""
    small.buffer.sealing_steps, small.buffer.sealing_idle = 10_000, 3600
    _play(small, *FILES, "notes", teardown={"deadline": "5s"})
    small.given_up = FILES
    small.patch(REQUEST, teardown=_discard(small))
    _waits_in_vain(small)
    _ends(small)
    assert [(file.path, file.bytes, file.adler32) for file in small.written_off] == [(path, 6, "") for path in FILES]
    unsure, *told = small.truth["outcome"]["exceptions"]
    assert "gave no list" in unsure
    assert told == ["found: notes (5 bytes)", *(f"discarded: {path} (6 bytes)" for path in FILES)]


def an_agent_comes_again_after_a_discard_was_due(small: Small) -> None:
    """Twice it is silent for less long than anyone gives it up for."""
    small.fail_copies(steps=10_000)
    _play(small, *FILES, teardown={"deadline": "5s"})
    small.until(lambda: small.truth.get("quarantinedAt"), _LONG)
    small.buffer.down = True
    small.given_up = FILES
    small.patch(REQUEST, teardown=_discard(small))
    small.until(lambda: "unlisted" in small.truth["steps"], _LONG)
    small.clock.turn(timedelta(minutes=9))
    small.catalogue.down = True
    small.buffer.down = False
    small.until(lambda: "unlisted" not in small.truth["steps"])
    small.buffer.down = True
    small.catalogue.down = False
    small.until(lambda: "unlisted" in small.truth["steps"])
    small.clock.turn(timedelta(minutes=9))
    small.step()
    assert not small.truth.get("discarded"), "it may come again"
    small.buffer.down = False
    _ends(small)
    assert [file.path for file in small.written_off] == list(FILES)


def _waits_in_vain(small: Small) -> None:
    """Have a discard that is due wait for a list, as long as it waits."""
    small.until(lambda: "unlisted" in small.truth["steps"], _LONG)
    small.clock.turn(timedelta(minutes=10))


def a_fence_that_never_comes_is_told_and_given_up(small: Small) -> None:
    small.buffer.unfenced = True
    _play(small, *FILES, teardown={"deadline": "5s"})
    small.until(lambda: small.truth["session"].get("endedAt"))
    small.clock.turn(timedelta(minutes=6))
    small.until(lambda: "is not fenced yet" in small.condition("OutputsSafe").get("message", ""))
    assert "ADMIN must act" in small.condition("OutputsSafe")["message"]
    small.given_up = FILES
    small.patch(REQUEST, teardown=_discard(small))
    _waits_in_vain(small)
    _ends(small)


def a_loss_is_acknowledged(small: Small) -> None:
    """The storage is lost after its outputs were registered: their RSE stays until somebody says that it may go."""
    small.fail_copies(steps=8)
    _play(small, *FILES)
    small.until(lambda: any(did.name.startswith("out.") for did in small.catalogue.registered(small.ledger)))
    small.given_up = FILES
    small.buffer.lose_volume()
    small.until(lambda: "holds the last copy" in small.message, _LONG)
    replicas = small.catalogue.replicas(small.rse, small.ledger)
    assert set(replicas.values()) == {"T"}, "people are sent to what is lost, or files vanish from Rucio"
    small.patch(REQUEST, teardown=_discard(small))
    _ends(small)


def files_are_published_while_the_session_runs(small: Small) -> None:
    """Each is kept at once, the second under the rule of the first; what is left in the outbox follows at the end."""
    small.request(outputs=[_output("kept", "kept/**", OUT, "SITE-B") | {"register": "Continuous"}])
    small.until(small.has_session)
    small.start_pod()
    small.until(lambda: small.truth["session"].get("startedAt"))
    for number, path in enumerate(FILES, 1):
        small.buffer.publish(small.uid, path, path.encode())
        small.written = FILES[:number]
        small.until(lambda: small.is_kept(*small.written), _LONG)
    assert not small.truth["session"].get("endedAt")
    assert len(small.kept_rules()) == 1
    small.buffer.write(small.uid, "kept/c", b"kept/c")
    small.written = (*FILES, "kept/c")
    small.end_pod()
    _ends(small)
    assert small.truth["outcome"]["files"] == 3


def the_storage_is_lost_while_the_session_lives(small: Small) -> None:
    """Inputs are out of sight until they have come again."""
    _lose_and_stage_again(small)
    small.until(lambda: small.condition("OutputsSafe").get("reason") == "StorageLost")
    small.write(*FILES)
    small.end_pod()
    _ends(small)
    safe, ready = small.condition("OutputsSafe"), small.condition("Ready")
    assert (safe["status"], safe["reason"]) == ("False", "StorageLost"), "what nobody has seen may have been lost"
    assert "2 files are verified at their destination." in safe["message"]
    assert (ready["status"], ready["reason"]) == ("True", "Completed")
    assert "the storage was lost" in ready["message"]


def _stages_again(small: Small) -> None:
    """Await the inputs on another volume: if the operator dies as it notices the loss, the status speaks of before."""

    def have_come() -> bool:
        found = small.buffer.report().inputs
        return bool(found) and all(one.staged == one.files for one in found)

    small.until(lambda: small.truth.get("losses"), _LONG)
    small.until(have_come, _LONG)
    small.until(lambda: small.condition("Usable").get("status") == "True", _LONG)
    small.until(lambda: set(small.catalogue.replicas(small.rse, small.ledger).values()) == {"A"}, _LONG)


def its_volume_is_removed(small: Small) -> None:
    """Nobody is sent to it any more, long before another storage pod could say so; inputs come to a new one."""
    small.request()
    small.until(small.has_session)
    small.start_pod()
    small.until(lambda: small.truth["session"].get("startedAt"))
    small.write("kept/a")
    small.written = ()
    volume = Ref("PersistentVolume", None, small.volume)
    small.drop(Piece.POD)
    small.cluster.delete(volume, (small.cluster.get(volume) or {})["metadata"]["uid"])
    small.buffer.lose_volume()
    reports, report = list[None](), small.buffer.report
    small.buffer.report = lambda: reports.append(None) or report()  # type: ignore[method-assign,func-returns-value]
    small.until(lambda: set(small.catalogue.replicas(small.rse, small.ledger).values()) == {"T"})
    assert not reports, "it was an agent that told"
    small.until(lambda: small.condition("OutputsSafe").get("reason") == "StorageLost")
    _stages_again(small)
    small.write(*FILES)
    small.end_pod()
    _ends(small)
    assert len(small.truth["losses"]) == 1


def the_list_of_inputs_is_deleted(small: Small) -> None:
    """Rucio still says the same: the storage, which is lost as well, gets the same files."""
    _begins(small)
    listed = Ref("ConfigMap", "bufs", name_of(small.record_id, Piece.INPUTS))
    before = small.cluster.get(listed) or {}
    small.cluster.delete(listed, before["metadata"]["uid"])
    small.buffer.lose_volume()
    _stages_again(small)
    small.until(lambda: small.cluster.get(listed))
    assert (small.cluster.get(listed) or {})["binaryData"] == before["binaryData"]
    small.write(*FILES)
    small.end_pod()
    _ends(small)


@contextmanager
def _long_lists() -> Iterator[None]:
    """Let a few names be more than one object of Kubernetes takes."""
    most, packed._MOST = packed._MOST, 60
    try:
        yield
    finally:
        packed._MOST = most


def its_lists_are_long(small: Small) -> None:
    """They are kept in several objects, are made anew if one of these is gone, and leave none behind."""
    with _long_lists():
        small.request()
        small.until(small.has_session)
        small.start_pod()
        small.until(lambda: small.truth["session"].get("startedAt"))
        label = {"volatilerse.io/record": small.record_id}
        before = [body["metadata"]["name"] for body in small.cluster.list("ConfigMap", "bufs", label)]
        assert len(before) > 1
        other = Ref("ConfigMap", "bufs", before[-1])
        small.cluster.delete(other, (small.cluster.get(other) or {})["metadata"]["uid"])
        small.buffer.lose_volume()
        _stages_again(small)
        small.until(lambda: small.cluster.get(other))
        small.fail_copies(steps=10_000)
        small.write(*FILES)
        small.end_pod()
        small.until(lambda: small.truth.get("filesAtRisk"))
        small.given_up = FILES
        small.patch(REQUEST, teardown=_discard(small))
        _ends(small)
        assert len(small.discarded) == 2
        kept = small.cluster.list("ConfigMap", "bufs", {"volatilerse.io/discarded": small.record_id})
        assert len(kept) > 1
        small.delete()
        small.until(lambda: small.is_gone)
        small.until(lambda: not small.record["metadata"].get("finalizers"))
        ours = small.cluster.list("ConfigMap", "bufs", {"volatilerse.io/discarded": small.record_id})
        assert not any(body["metadata"].get("finalizers") for body in ours), "held for ever"


def the_storage_is_lost_while_a_last_copy_keeps_it(small: Small) -> None:
    """Its outputs are safe already; an input that was nowhere else is lost, and told so until somebody gives it up."""
    _begins(small)
    small.write(*FILES)
    small.catalogue.lose("SITE-A", _IN)
    small.end_pod()
    small.until(lambda: small.condition("Stalled").get("reason") == "LastCopyOfInput", _LONG)
    small.buffer.lose_volume()
    small.until(lambda: small.truth.get("losses"), _LONG)
    small.until(lambda: set(small.catalogue.replicas(small.rse, small.ledger).values()) == {"T"}, _LONG)
    assert not small.truth.get("freedAt")
    small.patch(REQUEST, teardown=_discard(small))
    _ends(small)
    assert small.discarded == {_IN}


def _lose_and_stage_again(small: Small) -> None:
    """Have a session that runs, whose storage was lost, and whose inputs have come again."""
    _begins(small)
    small.buffer.lose_volume()
    _stages_again(small)


def a_discard_after_a_loss_gives_up_no_input_that_has_come_again(small: Small) -> None:
    """Its outputs are given up; the input, which is nowhere else by now, keeps the buffer."""
    _lose_and_stage_again(small)
    small.write(*FILES)
    small.fail_copies(steps=10_000)
    small.catalogue.lose("SITE-A", _IN)
    small.end_pod()
    small.until(lambda: small.truth.get("phase") == "Keeping")
    small.given_up = FILES
    small.patch(REQUEST, teardown=_discard(small))
    small.until(lambda: small.condition("Stalled").get("reason") == "LastCopyOfInput", _LONG)
    for _ in range(3):
        small.step()
    assert _IN not in small.discarded, "I1b: a last copy that is there was given up"
    assert small.catalogue.replicas(small.rse, small.ledger)[_IN] == "A"
    small.catalogue.add_files(Did("user.alice", "in"), "SITE-A", [File(_IN, 100, "00000000")])
    _ends(small)
    assert small.truth["discarded"]["files"] == len(FILES)


def known_outputs_are_lost_before_anybody_registered_them(small: Small) -> None:
    """Nobody has their names; they are counted, and their RSE stays until their owner has acknowledged it."""
    _begins(small)
    small.write(*FILES)
    small.until(lambda: _told(small)["files"] == len(FILES), _LONG)
    small.given_up = FILES
    small.buffer.lose_volume()
    small.until(lambda: small.truth.get("losses"))
    assert "2 output files (12 bytes) that were known and not safe" in small.truth["losses"][0]
    small.end_pod()
    small.until(lambda: small.condition("Stalled").get("reason") == "StorageLost", _LONG)
    for _ in range(3):
        small.step()
    for type_ in ("OutputsSafe", "Ready"):
        condition = small.condition(type_)
        assert (condition["status"], condition["reason"]) == ("False", "StorageLost")
        assert "2 output files (12 bytes)" in condition["message"]
        assert "spec.teardown.discard" in condition["message"]
    assert "2 output files (12 bytes) went with its storage" in small.message
    assert not small.truth.get("freedAt"), "lost, and nobody has acknowledged it"
    small.patch(REQUEST, teardown=_discard(small))
    _ends(small)
    assert small.truth["discarded"]["requestedBy"] == "alice"
    assert small.condition("OutputsSafe")["reason"] == "Discarded"
    assert "2 output files (12 bytes)" in small.condition("OutputsSafe")["message"]


def _told(small: Small) -> dict[str, int]:
    """Give what is told of its only output."""
    status = (small.cluster.get(REQUEST) or {}).get("status") or {}
    (entry,) = status.get("outputs") or [{"files": 0}]
    return dict(entry)


def a_consent_that_was_not_needed_is_none_to_a_later_loss(small: Small) -> None:
    """All became safe within the last try, and its owner went: an input that is lost then is an admin's matter."""
    _begins(small)
    small.write(*FILES)
    small.fail_copies(steps=25)
    small.catalogue.lose("SITE-A", _IN)
    small.end_pod()
    small.until(lambda: small.truth.get("phase") == "Keeping")
    small.patch(REQUEST, teardown=_discard(small))
    small.until(lambda: small.truth.get("consent"))
    small.until(lambda: small.truth.get("safeAt"))
    assert not small.truth.get("discarded")
    assert not small.truth.get("consent")
    small.delete()
    small.until(lambda: small.is_gone)
    small.buffer.lose_volume()
    small.until(lambda: small.truth.get("losses"))
    for _ in range(5):
        small.step()
    assert not small.truth.get("discarded"), "given up, and nobody asked for this"
    small.patch(Ref("RSERecord", None, record_name(small.record_id)), **_discard(small))
    _ends(small)
    assert small.discarded == {_IN}


def an_older_operator_has_made_it(small: Small) -> None:
    """What it made otherwise serves on, is completed where a new pod needs it, and goes with the buffer."""
    _begins(small)
    keys = Ref("Secret", "bufs", name_of(small.record_id, Piece.KEYS))
    before = (small.cluster.get(keys) or {})["data"]
    small.cluster.merge(keys, {"data": dict.fromkeys(key for key in before if key.startswith("xrootd."))})
    labels = (small.cluster.get(keys) or {})["metadata"]["labels"]
    for kind, name in (("ConfigMap", "config"), ("Service", "agent")):
        metadata = {"namespace": "bufs", "name": f"{record_name(small.record_id)}-{name}", "labels": labels}
        content: dict[str, object] = {"spec": {"ports": []}} if kind == "Service" else {}
        small.cluster.create({"apiVersion": "v1", "kind": kind, "metadata": metadata, **content})
    small.drop(Piece.POD)
    small.buffer.restart()
    small.until(lambda: small.cluster.get(Ref("Pod", "bufs", name_of(small.record_id, Piece.POD))))
    after = (small.cluster.get(keys) or {})["data"]
    assert {key for key in before if after.get(key) != before[key]} == {
        "server.tls.crt", "server.tls.key", "agent.tls.crt", "agent.tls.key",
    }, "the session's token must stay good"  # fmt: skip
    small.write(*FILES)
    small.end_pod()
    _ends(small)


def the_keys_are_deleted(small: Small) -> None:
    """They come again as they were, so that the session's token stays good."""
    _begins(small)
    keys = Ref("Secret", "bufs", name_of(small.record_id, Piece.KEYS))
    before = (small.cluster.get(keys) or {})["data"]
    small.drop(Piece.KEYS)
    small.until(lambda: small.cluster.get(keys))
    after = (small.cluster.get(keys) or {})["data"]
    kept = [key for key in before if key.startswith("xrootd.")]
    assert [after[key] for key in kept] == [before[key] for key in kept]
    small.write(*FILES)
    small.end_pod()
    _ends(small)


def somebody_changes_what_the_session_was_given(small: Small) -> None:
    """It is made anew a minute after it was made, and is whole again, whatever goes wrong on the way."""
    _begins(small)
    secret, config = (Ref(kind, "alice", "run-vrse") for kind in ("Secret", "ConfigMap"))
    small.cluster.merge(secret, {"data": {"token": "Z2FyYmFnZQ=="}})
    small.clock.turn(timedelta(minutes=2))
    # Nobody watches Secrets of users: any event about the session brings the next look.
    small.cluster.merge(REQUEST, {"metadata": {"annotations": {"looked-at": "now"}}})
    small.until(lambda: (small.cluster.get(secret) or {}).get("data", {}).get("token") not in {None, "Z2FyYmFnZQ=="})
    small.until(lambda: small.cluster.get(config) and small.condition("Ready").get("status") == "True")
    small.write(*FILES)
    small.end_pod()
    _ends(small)


def entries_are_added_and_removed(small: Small) -> None:
    """One that cannot be found is told for itself, and the others are the session's own from then on."""
    later = _output("later", "later/**", SECOND, "SITE-A")
    small.catalogue.add_files(Did("user.alice", "more"), "SITE-A", [File(Did("user.alice", "more.0"), 40, "0000004a")])
    _begins(small)
    spec = (small.cluster.get(REQUEST) or {})["spec"]
    more = [{"name": "more", "did": "user.alice:more"}, {"name": "no", "did": "user.alice:nothing"}]
    small.patch(REQUEST, inputs=more, outputs=[*spec["outputs"], {**later, "register": "Continuous"}])
    small.until(lambda: small.buffer.holds(store_path(Did("user.alice", "more.0"))), _LONG)
    told = (
        ("Output", "later", "Accepted"),
        ("Input", "more", "Accepted"),
        ("Input", "in", "Removed"),
        ("Input", "no", "Refused"),
    )
    small.until(lambda: _entries(small) == set(told), _LONG)
    assert small.condition("Stalled")["status"] == "False"
    small.write(*FILES)
    small.until(lambda: "/publish/" in _right_to_publish(small), _LONG)
    small.buffer.publish(small.uid, "later/x", b"late")
    small.until(lambda: small.catalogue.size(SECOND) == len(b"late"), _LONG)
    small.end_pod()
    _ends(small)


def _entries(small: Small) -> set[tuple[str, str, str]]:
    told = (small.cluster.get(REQUEST) or {})["status"].get("entries", ())
    return {(entry["kind"], entry["name"], entry["state"]) for entry in told}


def _right_to_publish(small: Small) -> str:
    config = small.cluster.get(Ref("ConfigMap", "alice", session_name(REQUEST.name)))
    return str(((config or {}).get("data") or {}).get("VRSE_PUBLISH"))


def class_and_connection_are_deleted(small: Small) -> None:
    """They stay until the last buffer that uses them is closed, and take no new session."""
    used = [Ref("VolatileRSEClass", None, "standard"), Ref("RucioConnection", None, "rucio")]
    _play(small, *FILES)
    for ref in used:
        small.cluster.delete(ref, (small.cluster.get(ref) or {})["metadata"]["uid"])
    release_unused(small.cluster, small.cluster.list("RSERecord"))
    assert all(small.cluster.get(ref) for ref in used), "a class or a connection went while it was used"
    _ends(small)
    release_unused(small.cluster, small.cluster.list("RSERecord"))
    assert not any(small.cluster.get(ref) for ref in used)


def its_cluster_is_lost(small: Small) -> None:
    """Another one takes its RSE over; outputs that nobody copied stay named until somebody says that they may go."""
    small.fail_copies(steps=10_000)
    _play(small, *FILES)
    small.until(lambda: len(small.catalogue.registered(small.ledger)) > len(FILES), _LONG)
    small.adopt(small.lose_cluster())
    small.until(lambda: "holds the last copy" in small.message, _LONG)
    replicas = small.catalogue.replicas(small.rse, small.ledger)
    assert set(replicas.values()) == {"T"}, "people are sent to what is lost, or files vanish from Rucio"
    small.given_up = FILES
    small.patch(Ref("RSERecord", None, record_name(small.record_id)), **_discard(small))
    _ends(small)
    assert {did.name.split(".")[0] for did in small.discarded} == {"out"}


def its_cluster_is_lost_with_its_rse_half_made(small: Small) -> None:
    """Its ledger and its RSE are there, and nothing yet that is set later; another cluster removes both."""
    small.catalogue.die_after(2, Killed())
    small.request()
    small.until(lambda: not small.catalogue.awaits_death)
    small.adopt(small.lose_cluster())
    _ends(small)


def its_cluster_is_lost_with_its_rse_half_removed(small: Small) -> None:
    _play(small, *FILES)
    small.until(lambda: small.truth.get("freedAt"), _LONG)
    small.catalogue.die_after(4, Killed())
    small.until(lambda: not small.catalogue.awaits_death)
    small.adopt(small.lose_cluster())
    _ends(small)


def rucio_is_restored_from_before_the_session(small: Small) -> None:
    """What was safe is unknown again: the storage stands until it is registered and held anew."""
    before = small.catalogue.backup()
    _play(small, *FILES)
    small.until(lambda: small.truth.get("safeAt"))
    assert not small.truth.get("freedAt"), "the empty server takes a moment"
    small.catalogue.restore(before)
    small.forget()
    _ends(small)
    assert "Rucio no longer knew" in small.truth["outcome"]["exceptions"][0]
    assert "registered again" in small.condition("OutputsSafe")["message"]


QUICK: tuple[Scenario, ...] = (comes_and_goes, deleted_before_it_was_ready)
"""Played to the end with every strike also where time is short."""
ALL: tuple[Scenario, ...] = (
    *QUICK,
    a_rule_on_the_buffer_alone_is_ended,
    the_storage_pod_is_deleted,
    the_storage_pod_and_its_claim_are_deleted,
    deleted_in_the_middle,
    nobody_comes,
    in_memory,
    copies_fail_at_first,
    without_outputs,
    the_first_match_takes_a_file,
    two_copies,
    an_input_of_no_bytes,
    a_rule_that_spans_is_respected,
    a_rule_comes_in_the_moment_of_the_hiding,
    the_last_copy_is_on_the_buffer,
    rucio_is_away_at_every_stage,
    rucio_goes_as_the_storage_is_freed,
    what_answers_the_reaper_is_deleted,
    the_agent_restarts_at_every_stage,
    the_operator_restarts_at_every_stage,
    the_namespace_goes,
    the_deadline_is_over,
    a_second_session_writes_the_same_to_the_same_dataset,
    a_second_session_writes_another_version_to_the_same_dataset,
    the_older_version_is_taken_out,
    a_dataset_of_its_own,
    another_session_takes_the_dataset_first,
    no_event_arrives,
    a_pod_that_nobody_saw_run,
    some_inputs_never_come,
    some_inputs_have_no_source,
    the_agent_restarts_on_a_tight_volume,
    more_inputs_than_are_registered,
    there_is_no_quota_at_first,
    the_quota_is_used_up_in_the_end,
    its_owner_ends_it,
    one_file_is_refused,
    its_owner_discards,
    its_owner_discards_and_goes,
    an_admin_discards,
    a_buffer_that_never_answers_is_discarded,
    an_inventory_that_never_comes_is_given_up,
    an_inventory_that_takes_its_time_is_waited_for,
    an_inventory_that_fails_in_the_end_is_given_up,
    an_inventory_that_hangs_is_given_up,
    an_agent_comes_again_after_a_discard_was_due,
    a_fence_that_never_comes_is_told_and_given_up,
    a_loss_is_acknowledged,
    its_cluster_is_lost,
    its_cluster_is_lost_with_its_rse_half_made,
    its_cluster_is_lost_with_its_rse_half_removed,
    the_storage_is_lost_while_the_session_lives,
    its_volume_is_removed,
    the_storage_is_lost_while_a_last_copy_keeps_it,
    a_discard_after_a_loss_gives_up_no_input_that_has_come_again,
    a_consent_that_was_not_needed_is_none_to_a_later_loss,
    known_outputs_are_lost_before_anybody_registered_them,
    an_older_operator_has_made_it,
    the_keys_are_deleted,
    somebody_changes_what_the_session_was_given,
    entries_are_added_and_removed,
    class_and_connection_are_deleted,
    the_list_of_inputs_is_deleted,
    its_lists_are_long,
    files_are_published_while_the_session_runs,
    rucio_is_restored_from_before_the_session,
    it_is_given_longer,
    leases_hold_it,
    its_job_outside_is_lost,
    it_is_deleted_when_it_is_finished,
)
