"""What the operator sees of a cluster that it watches, also when watches are late, break, or tell nothing any more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from volatile_rse.adapters.cached_cluster import CachedCluster
from volatile_rse.adapters.fake_cluster import FakeCluster
from volatile_rse.api.conditions import Reason
from volatile_rse.ports.cluster import Listing, Object, Ref, Scope, WatchEvent
from volatile_rse.ports.errors import RefusedError, UnreachableError

REF = Ref("ConfigMap", "n", "a")
SECRET = Ref("Secret", "n", "given")
LABELLED = Scope("Pod", label="x")


class Asked(FakeCluster):
    """A cluster that counts what it is asked to read."""

    def __init__(self) -> None:
        super().__init__("n", "m")
        self.reads: list[str] = []

    def get(self, ref: Ref) -> Object | None:
        self.reads.append(f"get {ref}")
        return super().get(ref)

    def list(
        self, kind: str, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> tuple[Object, ...]:
        self.reads.append(f"list {kind}")
        return super().list(kind, namespace, labels)


def body(ref: Ref = REF, **labels: str) -> dict[str, Any]:
    metadata = {"name": ref.name, "namespace": ref.namespace, "labels": labels}
    return {"apiVersion": "v1", "kind": ref.kind, "metadata": metadata, "data": {"k": "1"}}


class Watched:
    """A cluster with views of ConfigMaps and labelled pods."""

    def __init__(self) -> None:
        self.source = Asked()
        self.now = 0.0
        scopes = (Scope("ConfigMap", concerns=lambda _: (SECRET,)), LABELLED)
        self.cluster = CachedCluster(
            self.source, scopes, lambda ref: 60.0 if ref.kind == "Secret" else 0.0, lambda: self.now
        )
        self.told: list[tuple[str, str]] = []
        self.cluster.on_change(lambda kind, body: self.told.append((kind, body["metadata"]["name"])))
        self.hear()

    def hear(self) -> None:
        for reflector in self.cluster.reflectors:
            reflector.follow()

    def data(self, ref: Ref = REF) -> Any:
        found = self.cluster.get(ref)
        return None if found is None else found["data"]


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_what_is_watched_is_not_asked_for(watched: Watched) -> None:
    watched.source.create(body())
    watched.hear()
    watched.source.reads.clear()
    assert watched.data() == {"k": "1"}
    assert watched.cluster.get(Ref("ConfigMap", "n", "none")) is None
    assert len(watched.cluster.list("ConfigMap", "n")) == 1
    assert watched.cluster.select("ConfigMap", lambda found: found["metadata"]["name"]) == ("a",)
    assert watched.source.reads == []


def test_own_writes_are_seen_before_any_watch_tells_of_them(watched: Watched) -> None:
    cluster = watched.cluster
    assert cluster.create(body()) is not None
    assert watched.data() == {"k": "1"}
    cluster.merge(REF, {"data": {"k": "2"}})
    assert watched.data() == {"k": "2"}
    cluster.apply({**body(), "data": {"k": "3"}})
    assert watched.data() == {"k": "3"}
    cluster.delete(REF, (cluster.get(REF) or {})["metadata"]["uid"])
    assert watched.data() is None
    watched.hear()
    assert watched.data() is None, "the watch tells of all that, too"


def test_what_a_finalizer_holds_is_there_until_it_is_taken_off(watched: Watched) -> None:
    held = body()
    held["metadata"]["finalizers"] = ["a.example.org/held"]
    made = watched.cluster.create(held) or {}
    watched.cluster.delete(REF, made["metadata"]["uid"])
    assert "deletionTimestamp" in (watched.cluster.get(REF) or {})["metadata"]
    watched.cluster.merge(REF, {"metadata": {"finalizers": []}})
    assert watched.data() is None


def test_a_name_that_is_taken_is_seen_though_no_watch_has_told_of_it(watched: Watched) -> None:
    watched.source.create(body())
    assert watched.data() is None, "the watch is late"
    assert watched.cluster.create(body()) is None
    assert watched.data() == {"k": "1"}


def test_the_live_cluster_asks_and_lets_the_view_know(watched: Watched) -> None:
    watched.source.create(body())
    assert watched.data() is None
    assert watched.cluster.live.get(REF) is not None
    assert watched.data() == {"k": "1"}
    watched.source.merge(REF, {"data": {"k": "2"}})
    assert len(watched.cluster.live.list("ConfigMap", "n")) == 1
    assert watched.data() == {"k": "2"}
    watched.cluster.live.merge(REF, {"data": {"k": "3"}})
    assert watched.data() == {"k": "3"}


def test_everybodys_changes_are_told_once_and_own_ones_not_at_all(watched: Watched) -> None:
    watched.cluster.create(body())
    watched.hear()
    assert watched.told == []
    watched.source.merge(REF, {"data": {"k": "2"}})
    watched.hear()
    watched.hear()
    assert watched.told == [("ConfigMap", "a")]
    watched.source.delete(REF, (watched.source.get(REF) or {})["metadata"]["uid"])
    watched.hear()
    assert watched.told == [("ConfigMap", "a")] * 2


def test_another_watch_may_tell_first(watched: Watched) -> None:
    made = watched.source.create(body()) or {}
    watched.cluster.saw("ConfigMap", made, False)
    assert watched.data() == {"k": "1"}
    watched.hear()
    assert watched.told == [("ConfigMap", "a")]
    watched.cluster.saw("ConfigMap", made, True)
    assert watched.data() is None


def test_a_watch_that_has_lost_its_way_lists_again_and_tells_what_has_vanished(watched: Watched) -> None:
    watched.source.create(body())
    watched.hear()
    watched.told.clear()
    watched.source.delete(REF, (watched.source.get(REF) or {})["metadata"]["uid"])
    watched.source.create(body(Ref("ConfigMap", "n", "b")))
    watched.source.compact()
    for reflector in watched.cluster.reflectors:
        with pytest.raises(UnreachableError, match="too old"):
            reflector.follow()
    watched.hear()
    assert sorted(watched.told) == [("ConfigMap", "a"), ("ConfigMap", "b")]
    assert watched.data() is None


def test_objects_of_a_scope_by_label_are_asked_for_where_the_view_has_none(watched: Watched) -> None:
    other = Ref("Pod", "n", "other")
    watched.source.create({**body(other), "spec": {}})
    watched.source.create({**body(Ref("Pod", "n", "ours"), x="1"), "spec": {}})
    watched.hear()
    watched.source.reads.clear()
    assert watched.cluster.get(other) is not None
    assert len(watched.cluster.list("Pod", "n")) == 2
    assert watched.source.reads == [f"get {other}", "list Pod"]
    assert len(watched.cluster.list("Pod", "n", {"x": "1"})) == 1
    assert len(watched.source.reads) == 2


def test_a_view_that_was_silent_for_minutes_is_not_believed(watched: Watched) -> None:
    watched.source.create(body())
    watched.now = 200.0
    assert watched.cluster.unheard() == 200.0
    assert watched.data() == {"k": "1"}
    assert len(watched.cluster.list("ConfigMap")) == 1


def test_nothing_is_believed_before_it_was_listed() -> None:
    source = Asked()
    source.create(body())
    cluster = CachedCluster(source, [Scope("ConfigMap")])
    assert cluster.unsynced(0) == ("ConfigMap of all namespaces: no answer yet",)
    assert cluster.get(REF) is not None
    cluster.reflectors[0].follow()
    assert cluster.unsynced(0) == ()


def test_what_cannot_be_watched_is_remembered_for_its_time(watched: Watched) -> None:
    watched.source.create(body(SECRET))
    watched.data(SECRET)
    watched.source.merge(SECRET, {"data": {"k": "2"}})
    assert watched.data(SECRET) == {"k": "1"}
    watched.now = 59.0
    assert watched.data(SECRET) == {"k": "1"}
    watched.now = 61.0
    watched.hear()
    assert watched.data(SECRET) == {"k": "2"}


def test_what_it_has_to_do_with_has_it_read_again(watched: Watched) -> None:
    watched.source.create(body(SECRET))
    watched.data(SECRET)
    watched.source.merge(SECRET, {"data": {"k": "2"}})
    watched.source.create(body())
    watched.hear()
    assert watched.data(SECRET) == {"k": "2"}


def test_own_writes_are_remembered_and_a_failed_one_has_it_read_again(watched: Watched) -> None:
    watched.cluster.create(body(SECRET))
    watched.source.reads.clear()
    assert watched.data(SECRET) == {"k": "1"}
    assert watched.source.reads == []
    watched.source.fail_next(after=True)
    with pytest.raises(UnreachableError):
        watched.cluster.merge(SECRET, {"data": {"k": "2"}})
    assert watched.data(SECRET) == {"k": "2"}
    watched.cluster.delete(SECRET, (watched.cluster.get(SECRET) or {})["metadata"]["uid"])
    assert watched.data(SECRET) is None


def test_that_something_is_not_there_is_remembered_for_seconds(watched: Watched) -> None:
    assert watched.data(SECRET) is None
    watched.source.create(body(SECRET))
    assert watched.data(SECRET) is None
    watched.now = 11.0
    assert watched.data(SECRET) == {"k": "1"}


def test_an_own_write_ends_that_something_is_not_there(watched: Watched) -> None:
    assert watched.data(SECRET) is None
    watched.cluster.create(body(SECRET))
    assert watched.data(SECRET) == {"k": "1"}
    watched.cluster.delete(SECRET, (watched.cluster.get(SECRET) or {})["metadata"]["uid"])
    assert watched.data(SECRET) is None
    watched.source.create(body(SECRET))
    assert watched.cluster.create(body(SECRET)) is None, "somebody else has made it"
    assert watched.data(SECRET) == {"k": "1"}


def test_a_conflict_stays_one(watched: Watched) -> None:
    watched.cluster.create(body())
    with pytest.raises(RefusedError) as caught:
        watched.cluster.merge(REF, {"metadata": {"resourceVersion": "1"}})
    assert caught.value.reason is Reason.CHANGED_MEANWHILE


class Flaky(FakeCluster):
    """A cluster whose watches break, each in another way."""

    def __init__(self) -> None:
        super().__init__("n")
        self.troubles: list[Exception] = [
            UnreachableError(Reason.CLUSTER_UNREACHABLE, "broken"),
            ValueError("a fault"),
        ]
        self.listed = threading.Semaphore(0)
        self.goes_on: Callable[[], bool] = lambda: True

    def listing(self, scope: Scope) -> Listing:
        self.listed.release()
        return super().listing(scope)

    def watch(self, scope: Scope, version: str) -> Iterator[WatchEvent]:
        if self.troubles:
            raise self.troubles.pop()
        return super().watch(scope, version)


def test_a_thread_that_watches_outlives_whatever_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("volatile_rse.adapters.cached_cluster._FIRST", 0.001)
    source = Flaky()
    cluster = CachedCluster(source, [Scope("ConfigMap")])
    cluster.start()
    for _ in range(3):
        assert source.listed.acquire(timeout=10)
    cluster.stop()
    assert cluster.unsynced(10) == ()
    assert source.troubles == []
    assert cluster.reflectors[0].trouble == "its watch ends at once"


class Unwatchable(FakeCluster):
    """A cluster that may be listed and not watched, as by the roles of an older version."""

    def watch(self, scope: Scope, version: str) -> Iterator[WatchEvent]:
        del scope, version
        raise RefusedError(Reason.CLUSTER_REFUSED, "403: watch is forbidden")


def test_what_may_be_listed_and_not_watched_is_not_synced() -> None:
    source = Unwatchable("n")
    cluster = CachedCluster(source, [Scope("ConfigMap")])
    cluster.start()
    assert cluster.unsynced(0.1) == ("ConfigMap of all namespaces: 403: watch is forbidden",)
    cluster.stop()


def test_an_object_that_could_not_be_written_is_asked_for_until_it_is_known(watched: Watched) -> None:
    watched.cluster.create(body())
    watched.source.merge(REF, {"data": {"k": "2"}})
    with pytest.raises(RefusedError):
        watched.cluster.merge(REF, {"metadata": {"resourceVersion": "1"}})
    assert watched.data() == {"k": "2"}, "no watch has told of it"
    watched.source.reads.clear()
    assert watched.data() == {"k": "2"}
    assert watched.source.reads == []


def test_an_object_that_could_not_be_written_is_asked_for_before_it_is_listed(watched: Watched) -> None:
    watched.cluster.create(body())
    watched.source.fail_next(after=True)
    with pytest.raises(UnreachableError):
        watched.cluster.merge(REF, {"data": {"k": "2"}})
    assert [found["data"] for found in watched.cluster.list("ConfigMap")] == [{"k": "2"}]
    watched.source.fail_next(after=True)
    with pytest.raises(UnreachableError):
        watched.cluster.delete(REF, (watched.cluster.get(REF) or {})["metadata"]["uid"])
    assert watched.cluster.select("ConfigMap", lambda found: found["data"]) == ()


def test_what_somebody_did_between_look_and_own_write_is_told(watched: Watched) -> None:
    watched.cluster.create(body())
    watched.source.merge(REF, {"metadata": {"annotations": {"look": "now"}}})
    watched.cluster.merge(REF, {"data": {"k": "2"}})
    assert watched.told == [("ConfigMap", "a")]
    watched.hear()
    assert watched.told == [("ConfigMap", "a")], "the watch has no news of it any more"


def test_what_a_live_read_finds_is_told(watched: Watched) -> None:
    watched.source.create(body())
    watched.cluster.live.get(REF)
    watched.source.delete(REF, (watched.source.get(REF) or {})["metadata"]["uid"])
    watched.cluster.live.get(REF)
    assert watched.told == [("ConfigMap", "a")] * 2
    assert watched.data() is None


def test_a_watch_that_broke_is_believed_for_seconds(watched: Watched) -> None:
    (reflector, _) = watched.cluster.reflectors
    reflector._broken = watched.now
    watched.source.create(body())
    assert watched.data() is None
    watched.now = 11.0
    assert watched.data() == {"k": "1"}
