"""The rules that hold outputs, where the dataset has one from before."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.unit.reconcile.judge import ends_well, judge
from tests.unit.reconcile.small_world import OUT, Small
from volatile_rse.domain import effects as do
from volatile_rse.domain.catalogue import Did
from volatile_rse.ports.cluster import Ref
from volatile_rse.reconcile.execute import execute


def output(lifetime: str | None = None, rses: str = "SITE-B", **other: object) -> dict[str, Any]:
    destination = {"rseExpression": rses} | ({} if lifetime is None else {"lifetime": lifetime})
    kept = {"name": "kept", "path": "kept/**", "scope": OUT.scope, "dataset": OUT.name, "destination": destination}
    return kept | other


def writes(small: Small, *paths: str, **spec: object) -> None:
    """Have a session that has written and ended."""
    small.request(**spec)
    small.until(small.has_session)
    small.start_pod()
    small.until(lambda: small.truth["session"].get("startedAt"))
    small.write(*paths)
    small.end_pod()


def again(small: Small, *paths: str, **spec: object) -> None:
    """Have another session, after a first one whose outputs are kept."""
    small.until(small.is_closed)
    small.delete()
    small.until(lambda: small.is_gone)
    pod = Ref("Pod", "alice", "job")
    small.cluster.delete(pod, (small.cluster.get(pod) or {})["metadata"]["uid"])
    small.renew()
    writes(small, *paths, **spec)


def ends_of(small: Small) -> list[datetime | None]:
    return [small.catalogue.end_of(rule) for rule in small.kept_rules()]


def is_safe(small: Small) -> bool:
    return bool(small.truth.get("safeAt"))


def judged(small: Small) -> Small:
    def apply(world: Any, connections: Any, facts: Any, effect: do.Effect) -> None:
        judge(small, effect)
        execute(world, connections, facts, effect)

    small.apply = apply
    return small


@pytest.mark.parametrize("hours", [20, 23])
def test_a_later_session_s_outputs_are_held_for_as_long_as_it_asks(hours: int) -> None:
    small = judged(Small())
    writes(small, "kept/a", outputs=[output("1d")])
    small.until(lambda: is_safe(small))
    (first,) = ends_of(small)
    small.clock.turn(timedelta(hours=hours))
    again(small, "kept/b", outputs=[output("1d")])
    small.until(lambda: is_safe(small))
    (second,) = ends_of(small)
    assert first is not None
    assert second is not None
    assert second >= small.clock.now() + timedelta(hours=23, minutes=50)
    again(small, "kept/c", outputs=[output()])
    small.until(lambda: is_safe(small))
    assert ends_of(small) == [None]
    again(small, "kept/d", outputs=[output("1h")])
    small.until(small.is_closed)
    assert ends_of(small) == [None], "never shortened"
    ends_well(small)


def test_one_dataset_has_one_destination() -> None:
    small = judged(Small())
    small.request(outputs=[output(), output(name="more", path="more/**", rses="SITE-A")])
    small.until(lambda: small.condition("Stalled").get("status") == "True")
    assert small.condition("Stalled")["reason"] == "InvalidSpec"
    assert str(OUT) in small.condition("Stalled")["message"]


def test_a_later_session_is_safe_at_another_destination_whatever_becomes_of_the_first_one_s_files() -> None:
    small = Small()
    writes(small, "kept/a", outputs=[output()])
    small.until(small.is_closed)
    again(small, "kept/b", outputs=[output(rses="SITE-A")])
    small.until(small.is_closed)
    assert small.truth["outcome"]["files"] == 1
    assert "quarantinedAt" not in small.truth
    (ours,) = [file for file in small.catalogue.content(OUT) if small.record_id in file.did.name]
    assert small.catalogue.locked_by(OUT, "alice", ["SITE-A"], files=[ours.did])
    state = small.catalogue.rule_state(OUT, "alice", ["SITE-A"])
    assert state is not None
    assert (state.state, state.ok, state.wanted) == ("REPLICATING", 1, 2)
    ends_well(small)


def test_a_dataset_s_destination_is_chosen_again() -> None:
    small = judged(Small())
    small.catalogue.quota["alice", "SITE-A"] = 0
    either = output(rses="SITE-A|SITE-B")
    writes(small, "kept/a", outputs=[either])
    small.until(small.is_closed)
    del small.catalogue.quota["alice", "SITE-A"]
    again(small, "kept/b", outputs=[either])
    small.until(small.is_closed)
    assert small.truth["destinations"] == [{"output": "kept", "rses": ["SITE-B"]}]


def test_a_rule_that_does_not_hold_what_has_arrived_is_named() -> None:
    small = judged(Small())
    writes(small, "kept/a", outputs=[output()])
    small.until(small.is_closed)
    (rule,) = small.kept_rules()
    small.catalogue.judging = False
    again(small, "kept/b", outputs=[output()], teardown={"deadline": "1h"})
    for _ in range(30):
        small.step()
    assert not is_safe(small)
    assert rule not in small.message, "Rucio needs a moment as a rule"
    small.clock.turn(timedelta(minutes=10))
    small.until(lambda: f"rule {rule} on {OUT} does not hold them: it is OK, 1 of its 2 locks are OK" in small.message)
    assert "USER must act" in small.message
    small.clock.turn(timedelta(hours=1))
    small.until(lambda: small.truth.get("quarantinedAt"))
    small.until(lambda: small.condition("OutputsSafe").get("reason") == "Quarantined")
    assert rule in small.condition("OutputsSafe")["message"], "in quarantine, too"
    small.catalogue.judging = True
    small.until(small.is_closed)
    ends_well(small)


def test_a_rule_that_somebody_else_s_file_keeps_back_is_named_at_once() -> None:
    small = Small()
    writes(small, "kept/a", outputs=[output()])
    small.until(small.is_closed)
    (theirs,) = small.catalogue.content(OUT)
    (rule,) = small.kept_rules()
    small.catalogue.judging = False
    small.catalogue.lose("SITE-B", theirs.did)
    again(small, "kept/b", outputs=[output()])
    small.until(lambda: f"rule {rule} on {OUT} does not hold them: it is REPLICATING" in small.message)
    small.catalogue.judging = True
    small.until(small.is_closed)


def test_what_the_dataset_has_already_is_held_for_as_long_as_the_later_session_asks() -> None:
    small = judged(Small())
    writes(small, "kept/a", outputs=[output("1d")])
    small.until(small.is_closed)
    again(small, "kept/a", outputs=[output()])
    small.until(small.is_closed)
    assert ends_of(small) == [None]
    ends_well(small)


def test_a_rule_that_counts_down_keeps_nothing_back_and_is_not_written_again() -> None:
    small, more = judged(Small()), Did(OUT.scope, "more")
    small.request(outputs=[output("1d"), output("1d", name="more", path="more/**", dataset=more.name)])
    small.until(small.has_session)
    small.catalogue.ensure_dataset(more, "alice", "another")
    small.catalogue.close(more)
    small.start_pod()
    small.until(lambda: small.truth["session"].get("startedAt"))
    small.write("kept/a", "more/b")
    small.end_pod()
    small.until(small.kept_rules)
    (end,), written = ends_of(small), small.catalogue.journal.count("ensure_rule")
    for _ in range(10):
        small.clock.turn(timedelta(hours=1))
        small.step()
    assert not is_safe(small)
    small.catalogue.open(more)
    small.forget()
    small.until(small.is_closed)
    assert ends_of(small) == [end]
    assert small.catalogue.journal.count("ensure_rule") == written + 1, "the other output's"


def test_a_rule_that_has_ended_holds_nothing() -> None:
    small = judged(Small())
    writes(small, "kept/a", outputs=[output("1d")])
    small.until(small.is_closed)
    cleaning, small.catalogue._clean = small.catalogue._clean, lambda: None  # type: ignore[method-assign]
    small.clock.turn(timedelta(days=2))
    again(small, "kept/b", outputs=[output("1d")])
    for _ in range(30):
        small.step()
    assert not is_safe(small)
    assert "has ended" in small.message
    small.catalogue._clean = cleaning  # type: ignore[method-assign]
    small.until(small.is_closed)
    (end,) = ends_of(small)
    assert end is not None
    assert end > small.clock.now() + timedelta(hours=23)
    ends_well(small)


def test_a_rule_that_is_not_ours_is_told_and_left_alone() -> None:
    small = judged(Small())
    writes(small, "kept/a", outputs=[output()])
    small.until(small.is_closed)
    (rule,) = small.kept_rules()
    small.catalogue.expire_rule(rule)
    small.catalogue.run_daemons()
    soon = small.clock.now() + timedelta(hours=1)
    theirs = small.catalogue.add_rule(OUT, "alice", ["SITE-B"], soon)
    again(small, "kept/b", outputs=[output()], teardown={"deadline": "10s"})
    small.until(lambda: small.truth.get("quarantinedAt"))
    small.until(lambda: theirs in small.condition("OutputsSafe").get("message", ""))
    assert "USER must act" in small.condition("OutputsSafe")["message"]
    assert small.catalogue.end_of(theirs) == soon
    small.catalogue.expire_rule(theirs)
    small.until(small.is_closed)
    assert ends_of(small) == [None]
