"""Whoever hangs eats the time of a visit, and keeps neither the end of a session nor its fence nor a word back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.unit.reconcile.small_world import REQUEST, Small
from volatile_rse.adapters.fake_buffer import FakeEndpoints
from volatile_rse.api.conditions import Reason
from volatile_rse.builders.objects import record_name
from volatile_rse.domain import effects as do
from volatile_rse.domain.stage import Stage
from volatile_rse.ports import deadline
from volatile_rse.ports.cluster import Ref
from volatile_rse.ports.errors import UnreachableError
from volatile_rse.reconcile import reconciler
from volatile_rse.reconcile.world import World

VISIT, QUICK, NEVER = 60.0, 0.01, 10_000.0
"""Seconds of a visit, of a call that is answered, and of one that is not."""
Answers = Callable[[str, str, tuple[Any, ...]], float]
"""Port, method and what it is called with -> seconds that the answer takes."""


class Timed:
    """Fakes whose calls take time, and fail as real ones do when a visit has none left."""

    def __init__(self, small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.takes: Answers = lambda *_: QUICK
        self.called: list[str] = []
        monkeypatch.setattr(deadline, "monotonic", lambda: self.now)
        self._small, made = small, small.world
        self._world = made
        monkeypatch.setattr(small, "world", self.world)
        small.forget()

    def world(self) -> World:
        made = self._world()
        for port, reason in {
            "cluster": Reason.CLUSTER_UNREACHABLE,
            "fresh": Reason.CLUSTER_UNREACHABLE,
            "endpoints": Reason.BUFFER_UNREACHABLE,
        }.items():
            object.__setattr__(made, port, self.timed(port, reason, getattr(made, port)))
        connect, buffer = made.connect, made.buffer
        object.__setattr__(
            made, "connect", lambda login: self.timed("catalogue", Reason.CATALOGUE_UNREACHABLE, connect(login))
        )
        object.__setattr__(made, "buffer", lambda *at: self.timed("buffer", Reason.BUFFER_UNREACHABLE, buffer(*at)))
        return made

    def timed(self, port: str, reason: Reason, real: Any) -> Any:
        outer = self

        class Port:
            def __getattr__(self, method: str) -> Any:
                if method == "reflectors":
                    return real.reflectors

                def call(*args: Any, **kwargs: Any) -> Any:
                    outer.called.append(f"{port}.{method}")
                    takes, left = outer.takes(port, method, args), deadline.left()
                    outer.now += min(takes, left)
                    if takes >= left:
                        over = deadline.missed()
                        raise UnreachableError(reason, f"{port}.{method}: {over}.") from over
                    return getattr(real, method)(*args, **kwargs)

                return call

        return Port()

    def visit(self) -> deadline.Deadline:
        """Let the operator look once, with all the time of a visit."""
        self._small.applied.clear()
        self.called.clear()
        began = self.now
        with deadline.within(VISIT) as visit:
            self._small.visit()
        assert self.now - began <= VISIT + 2 * reconciler._WORDS
        return visit


def hangs(*which: str) -> Answers:
    return lambda port, method, _args: NEVER if port in which or f"{port}.{method}" in which else QUICK


def running() -> Small:
    small = Small()
    small.begin()
    small.write("kept/a")
    return small


def end(small: Small) -> None:
    small.patch(REQUEST, endRequested=True)


def lose(small: Small) -> None:
    """Have Rucio asked while the session is fenced: once before, its storage was lost."""
    record = Ref("RSERecord", None, record_name(small.record_id))
    small.cluster.merge(record, {"status": {"losses": ["then: the storage was lost"]}}, subresource="status")


def effects(small: Small, kind: type[do.Effect]) -> int:
    return sum(isinstance(effect, kind) for effect in small.applied)


@pytest.mark.parametrize("who", ["catalogue", "endpoints", "catalogue.rse", "buffer.inputs", "buffer.outputs"])
@pytest.mark.parametrize("lost", [False, True])
def test_whoever_hangs_the_session_ends_and_is_fenced(monkeypatch: pytest.MonkeyPatch, who: str, *, lost: bool) -> None:
    small = running()
    if lost:
        lose(small)
    timed = Timed(small, monkeypatch)
    end(small)
    timed.takes = hangs(who)
    timed.visit()
    assert small.truth["session"]["endedAt"]
    assert effects(small, do.RevokeSession) == 1
    assert effects(small, do.Fence) == 1
    assert small.buffer.report().desired.mode == "fenced"


def test_what_rucio_is_told_of_a_loss_comes_after_the_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    small = running()
    small.buffer.lose_volume()
    timed = Timed(small, monkeypatch)
    end(small)
    timed.takes = hangs("catalogue.suspend")
    visit = timed.visit()
    assert visit.missed
    assert effects(small, do.Fence) == 1


def test_a_cluster_that_hangs_beyond_the_glimpse_leaves_the_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    small = running()
    timed = Timed(small, monkeypatch)
    end(small)
    timed.takes = hangs("cluster.list")
    visit = timed.visit()
    assert visit.missed
    assert effects(small, do.Fence) == 1


def test_that_nobody_writes_any_more_is_seen_before_rucio_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    small = running()
    lose(small)
    end(small)
    small.until(lambda: small.truth.get("phase") == Stage.FENCING.value)
    timed = Timed(small, monkeypatch)
    timed.takes = hangs("catalogue")
    for _ in range(3):
        timed.visit()
        small.others()
    assert small.buffer.report().seal is not None, "the inventory was ordered"


def is_told(small: Small) -> bool:
    conditions = small.cluster.get(REQUEST)["status"]["conditions"]  # type: ignore[index]
    told = [small.message, *(condition["message"] for condition in conditions)]
    return any("time of this visit was over" in message for message in told)


@pytest.mark.parametrize("who", ["buffer.report", "catalogue", "endpoints"])
def test_what_has_eaten_the_time_is_told(monkeypatch: pytest.MonkeyPatch, who: str) -> None:
    small = Small()
    small.request()
    small.until(small.has_session)
    timed = Timed(small, monkeypatch)
    timed.takes = hangs(who)
    for _ in range(2):
        assert timed.visit().missed
        small.clock.turn(timedelta(seconds=15))
    assert is_told(small)


def test_deeds_that_have_eaten_the_time_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Small()
    small.request()
    timed = Timed(small, monkeypatch)
    timed.takes = hangs("catalogue.ensure_ledger")
    for _ in range(10):
        began = timed.now
        timed.visit()
        small.others()
        if timed.now - began >= VISIT:
            break
    assert "catalogue.ensure_ledger" in timed.called
    assert is_told(small)


def test_a_visit_that_fails_for_want_of_time_is_told_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Small()
    small.request()
    small.until(small.has_session)
    timed = Timed(small, monkeypatch)
    timed.takes = hangs("cluster.list")
    for _ in range(reconciler._BLINKS + 1):
        timed.visit()
    assert is_told(small)


def test_a_look_is_not_begun_that_has_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deeds that take all of it are told as what they are; the next visit looks again."""
    small = Small()
    small.request()
    timed = Timed(small, monkeypatch)
    slow = VISIT - reconciler._DEEDS
    timed.takes = lambda port, method, _: slow if (port, method) == ("cluster", "create") else QUICK
    assert not timed.visit().missed
    assert small.record
    for _ in range(10):
        timed.visit()
        small.others()
    assert small.truth.get("inputs") is not None, "each visit has got on"


@pytest.mark.parametrize("who", ["credentials", "site"])
def test_a_site_that_no_time_was_left_for_has_not_consented(monkeypatch: pytest.MonkeyPatch, who: str) -> None:
    """It would have said that it has no such file."""
    small = running()
    end(small)
    small.until(lambda: small.truth.get("phase") == Stage.KEEPING.value)
    asked = 0

    def size(*_: object) -> None:
        nonlocal asked
        asked += 1

    monkeypatch.setattr(FakeEndpoints, "size", size)
    timed = Timed(small, monkeypatch)

    def takes(_port: str, method: str, _args: object) -> float:
        # All but what the next call would need.
        return max(deadline.left() - QUICK / 2, 0) if method == "read_pfns" else QUICK

    timed.takes = takes if who == "credentials" else hangs("endpoints.size")
    cut = 0
    for _ in range(20):
        cut += timed.visit().missed
        small.others()
    assert cut, "its time was over where the site was to be asked"
    assert not asked
    assert small.truth.get("safeAt") is None
    timed.takes = lambda *_: QUICK
    timed.visit()
    assert asked
    assert small.truth.get("safeAt") is None


def takes_all_before(port: str, wanted: str) -> Answers:
    """Leave no time for a call, whatever is asked before it."""

    def takes(at: str, method: str, _args: object) -> float:
        return max(deadline.left() - QUICK / 2, 0) if (at, method) == (port, wanted) else QUICK

    return takes


CUT: dict[str, Answers] = {
    "Rucio is slow": hangs("catalogue"),
    "Rucio is slow in the middle": hangs("catalogue.registered"),
    "no time was left to wait for the agent": hangs("buffer.report"),
    "the agent has left the door no time": takes_all_before("buffer", "report"),
}


@pytest.mark.parametrize("case", CUT)
def test_a_running_session_is_not_told_to_be_unusable_for_want_of_time(
    monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    small = running()
    small.visit()

    def statuses() -> dict[str, str]:
        conditions = small.cluster.get(REQUEST)["status"]["conditions"]  # type: ignore[index]
        return {condition["type"]: condition["status"] for condition in conditions}

    phase, before = small.cluster.get(REQUEST)["status"]["phase"], statuses()  # type: ignore[index]
    assert (before["Ready"], before["Usable"], before["RSERegistered"]) == ("True", "True", "True")
    timed = Timed(small, monkeypatch)
    timed.takes = CUT[case]
    for _ in range(3):
        assert timed.visit().missed
        small.clock.turn(timedelta(seconds=15))
        assert statuses() == before
        assert small.cluster.get(REQUEST)["status"]["phase"] == phase  # type: ignore[index]
    assert is_told(small)


@pytest.mark.parametrize("case", CUT)
def test_a_session_is_not_given_up_whose_agent_nobody_has_asked(monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    """Its inputs arrive while the visits have no time to see that."""
    small = Small()
    small.request(inputs=[{"name": "in", "did": "user.alice:in", "deadline": "10m", "onDeadline": "Fail"}])
    small.buffer.idle = {"in": 3}
    monkeypatch.setattr(small.buffer, "advance", lambda *_, **__: None)
    small.until(lambda: small.truth.get("inputs") and small.truth.get("volume"))
    timed = Timed(small, monkeypatch)
    timed.takes = CUT[case]
    for _ in range(3):
        timed.visit()
        small.clock.turn(timedelta(minutes=11))
    assert not small.truth["session"].get("endedAt")
    assert "unasked" not in (small.truth.get("steps") or {})


def test_that_no_time_was_left_is_nobodys_fault_and_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    small = running()
    small.visit()
    timed = Timed(small, monkeypatch)
    timed.takes = CUT["no time was left to wait for the agent"]
    for _ in range(2):
        timed.visit()
        small.clock.turn(timedelta(seconds=15))
    assert small.message.count("NOBODY must act") == 1
    assert "ADMIN" not in small.message


def test_another_look_is_not_begun_that_would_be_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its result would replace a good one."""
    small = Small()
    small.request()
    timed, made = Timed(small, monkeypatch), False

    def takes(port: str, method: str, _args: object) -> float:
        nonlocal made
        if (port, method) == ("cluster", "create"):
            made = True
            return deadline.left() - reconciler._DEEDS - reconciler._LOOK + 1
        return NEVER if made and port == "catalogue" else QUICK

    timed.takes = takes
    assert not timed.visit().missed
    assert made
