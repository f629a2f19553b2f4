"""An agent that tells what cannot be: nothing is registered, copied, attached or freed by its word."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import pytest

from tests.unit.reconcile.small_world import REQUEST, Small
from volatile_rse.adapters.fake_buffer import FakeEndpoints
from volatile_rse.api.agent import (
    CopyTotals,
    InputPage,
    InputState,
    InputTotals,
    LeaseTotals,
    OutputState,
    OutputTotals,
    Report,
)
from volatile_rse.api.conditions import Reason
from volatile_rse.api.schema import ApiModel
from volatile_rse.domain.catalogue import Did, Standing
from volatile_rse.ports.errors import UnreachableError
from volatile_rse.reconcile.gather import reports

_Model = TypeVar("_Model", bound=ApiModel)


def lying(small: Small, change: Callable[[Report], Report]) -> None:
    """Let the agent report something else from now on."""
    honest = small.buffer.report
    small.buffer.report = lambda: change(honest())  # type: ignore[method-assign]


def honest_again(small: Small) -> None:
    for call in ("report", "inputs", "outputs"):
        vars(small.buffer).pop(call, None)


def with_first(report: Report, **changes: object) -> Report:
    return report.model_copy(update={"inputs": [report.inputs[0].model_copy(update=changes)]})


def with_leases(report: Report, **changes: object) -> Report:
    first = LeaseTotals(claim=(report.leases or [])[0].claim, held=1, until=(report.clock or 0) + 60)
    return report.model_copy(update={"leases": [first.model_copy(update=changes)]})


def written(small: Small) -> None:
    small.begin()
    small.write("kept/a", "kept/b")
    small.end_pod()


REPORTS: dict[str, tuple[Callable[[Report], Report], str]] = {
    "more files than the manifest": (lambda told: with_first(told, files=9), "has 2 files"),
    "more staged than there are": (lambda told: with_first(told, staged=2, failed=1), "2 staged, 1 failed of 2"),
    "an input of nobody": (lambda told: told.model_copy(update={"inputs": [InputTotals(name="x")]}), "an input x"),
    "another session": (
        lambda told: told.model_copy(update={"outputs": [OutputTotals(claim="other")]}),
        "session other",
    ),
    "more copies than there are": (
        lambda told: told.model_copy(update={"copies": CopyTotals(files=1, verified=1, failed=1)}),
        "more copies",
    ),
    "leases of another session": (lambda told: with_leases(told, claim="other"), "leases of session other"),
    "leases without an end": (lambda told: with_leases(told, until=None), "counts 1 leases"),
    "an end of no lease": (lambda told: with_leases(told, held=0), "counts 0 leases"),
    "a lease of years": (lambda told: with_leases(told, until=1 << 62), "longer than any can be"),
    "a lease by no clock": (
        lambda told: with_leases(told).model_copy(update={"clock": None}),
        "longer than any can be",
    ),
}


@pytest.mark.parametrize("lie", REPORTS)
def test_an_impossible_report_is_refused_until_it_is_possible(lie: str) -> None:
    small = Small()
    small.request()
    small.until(lambda: small.buffer.report().inputs)
    change, words = REPORTS[lie]
    lying(small, change)
    small.until(lambda: small.condition("Ready").get("reason") == "BufferImplausible")
    message = small.condition("Ready")["message"]
    assert words in message
    assert "ADMIN must act" in message
    assert not small.has_session()
    honest_again(small)
    small.until(small.has_session)


LISTINGS: dict[str, tuple[Callable[[int], int | None], bool, str]] = {
    "stands still": (lambda after: after, True, "goes on at"),
    "goes back": (lambda _: 1, True, "goes on at 1"),
    "gives nothing and goes on": (lambda after: after + 1, False, "0 items"),
    "never ends": (lambda after: after + 1, True, "more than 50 pages"),
}


@pytest.mark.parametrize("lie", LISTINGS)
def test_a_listing_without_an_end_is_not_believed_and_holds_nobody(lie: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "_PAGES", 50)
    small = Small()
    small.request()
    small.until(lambda: small.buffer.inputs().items)
    following, has_items, words = LISTINGS[lie]
    honest, asked = small.buffer.inputs, 0

    def inputs(after: int = 0) -> InputPage:
        nonlocal asked
        asked += 1
        assert asked < 9999, "it is read for ever"
        page = honest()
        return page.model_copy(update={"next": following(after), "items": page.items if has_items else []})

    small.buffer.inputs = inputs  # type: ignore[method-assign]
    small.until(lambda: words in small.message)
    assert "cannot be believed" in small.message
    honest_again(small)
    small.until(lambda: "cannot be believed" not in small.message)


def test_a_listing_that_takes_too_long_is_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Small()
    small.request()
    small.until(lambda: small.buffer.inputs().items)
    monkeypatch.setattr(small.buffer, "_page", 1)
    honest = small.buffer.inputs

    def inputs(after: int = 0) -> InputPage:
        small.clock.turn(timedelta(minutes=6))
        return honest(after)

    small.buffer.inputs = inputs  # type: ignore[method-assign]
    small.until(lambda: "has not listed its files within 300 s" in small.message)
    honest_again(small)
    small.until(lambda: "has not listed" not in small.message)


def test_what_is_not_on_the_list_is_not_registered() -> None:
    small = Small()
    small.request()
    honest = small.buffer.inputs

    def inputs(after: int = 0) -> object:
        page = honest(after)
        items = [state.model_copy(update={"adler32": "ffffffff"}) for state in page.items]
        return page.model_copy(update={"items": items})

    small.buffer.inputs = inputs  # type: ignore[method-assign,assignment]
    small.until(lambda: "not on the list" in small.message)
    assert small.catalogue.registered(small.ledger) == frozenset()
    honest_again(small)
    small.until(small.has_session)


FILES: dict[str, tuple[dict[str, object], str]] = {
    "somebody else's scope": ({"scope": "user.bob"}, "no name of output kept"),
    "a name that is not this buffer's": ({"name": "in.0"}, "no name of output kept"),
    "no checksum": ({"adler32": None}, "without output, name or checksum"),
    "no name": ({"name": None}, "without output, name or checksum"),
    "an output of nobody": ({"output": "x"}, "an output x"),
    "another session": ({"claim": "other"}, "session other"),
}


@pytest.mark.parametrize("lie", FILES)
def test_an_impossible_output_is_neither_registered_nor_safe(lie: str) -> None:
    small = Small(inputs=0)
    written(small)
    changes, words = FILES[lie]
    honest = small.buffer.outputs

    def outputs(after: int = 0) -> object:
        page = honest(after)
        sealed = [state for state in page.items if state.state == "sealed"]
        items = [state.model_copy(update=changes) if state in sealed[:1] else state for state in page.items]
        return page.model_copy(update={"items": items})

    small.buffer.outputs = outputs  # type: ignore[method-assign,assignment]
    small.until(lambda: words in small.message)
    assert small.condition("OutputsSafe")["reason"] == "BufferImplausible"
    for _ in range(5):
        small.step()
    assert small.catalogue.registered(small.ledger) == frozenset()
    assert "safeAt" not in small.truth
    honest_again(small)
    small.until(small.is_closed)
    assert small.is_kept("kept/a", "kept/b")


@pytest.mark.parametrize("phase", ["Keeping", "Hiding"])
def test_what_an_agent_forgets_is_not_given_up(phase: str) -> None:
    small = Small(inputs=0)
    small.fail_copies(steps=8)
    written(small)
    honest = small.buffer.outputs

    def outputs(after: int = 0) -> object:
        page = honest(after)
        return page.model_copy(update={"items": page.items[:1] if small.truth.get("phase") == phase else page.items})

    small.buffer.outputs = outputs  # type: ignore[method-assign,assignment]
    small.until(lambda: "knows of 2 output files on its volume, and it tells of 1" in small.message)
    for _ in range(5):
        small.step()
    assert small.truth["phase"] == phase
    honest_again(small)
    small.until(small.is_closed)
    assert small.is_kept("kept/a", "kept/b")


def test_a_directory_that_can_be_read_again_is_not_forgotten() -> None:
    """It was counted as a file at risk, and what it has, if anything, is listed by itself."""
    small = Small(inputs=0)
    written(small)
    honest, now = small.buffer.outputs, ["failed"]
    unread: dict[str, object] = dict.fromkeys(("scope", "name", "store_path", "adler32"))

    def outputs(after: int = 0) -> object:
        page = honest(after)
        damaged = {**unread, "state": now[0], "error": "Input/output error"}
        items = [
            state.model_copy(update=damaged) if (state.path, state.state) == ("kept/b", "sealed") else state
            for state in page.items
        ]
        return page.model_copy(update={"items": items})

    small.buffer.outputs = outputs  # type: ignore[method-assign,assignment]
    small.until(lambda: small.condition("OutputsSafe").get("reason") == "SealingFailed")
    assert small.truth["filesAtRisk"] == 2
    now[0] = "skipped"
    small.written = ("kept/a",)
    small.until(small.is_closed)


class Nowhere(dict[str, tuple[int, str]]):
    """Sites that nothing arrives at."""

    def __setitem__(self, url: str, what: tuple[int, str]) -> None:
        pass


def test_a_copy_that_never_arrived_is_not_safe_whatever_the_agent_says() -> None:
    small = Small(inputs=0)
    small.buffer.sites = Nowhere()
    written(small)
    small.until(lambda: "has no such file" in small.message)
    assert small.condition("OutputsSafe")["reason"] == "BufferImplausible"
    for _ in range(5):
        small.step()
    assert "safeAt" not in small.truth
    small.buffer.sites = {copy.pfn: (len("kept/a"), "") for copy in small.buffer.copies().items}
    small.until(small.is_closed)


def test_a_file_that_was_removed_by_hand_is_given_up_by_a_discard_after_the_deadline() -> None:
    small = Small(inputs=0)
    small.fail_copies(steps=8)
    written(small)
    honest = small.buffer.outputs

    def outputs(after: int = 0) -> object:
        page = honest(after)
        is_removed = small.truth.get("phase") == "Keeping"
        return page.model_copy(
            update={"items": [state for state in page.items if not is_removed or "b" not in state.path]}
        )

    small.buffer.outputs = outputs  # type: ignore[method-assign,assignment]
    small.until(lambda: "it tells of 1" in small.message)
    given_up_late(small)
    assert [file.path for file in small.written_off if file.path] == ["kept/a"], "what it tells of all the same"


def test_a_copy_that_never_arrived_is_given_up_by_a_discard_after_the_deadline() -> None:
    small = Small(inputs=0)
    small.buffer.sites = Nowhere()
    written(small)
    small.until(lambda: "has no such file" in small.message)
    copies = {copy.pfn for copy in small.buffer.copies().items}
    given_up_late(small)
    assert small.truth["outcome"]["files"] == 0, "what is not believed is said to be kept"
    assert [(file.path, file.did) for file in small.written_off] == [("kept/a", ""), ("kept/b", "")]
    assert {pfn for file in small.written_off for pfn in file.copies} == copies


def test_a_discard_gives_up_no_file_of_others_that_an_agent_calls_an_output() -> None:
    small = Small(inputs=1)
    small.fail_copies(steps=10_000)
    written(small)
    honest, theirs = small.buffer.outputs, Did("user.alice", "in.0")

    def outputs(after: int = 0) -> object:
        page = honest(after)
        lies = small.truth.get("phase") == "Keeping"
        called = {"scope": theirs.scope, "name": theirs.name}
        items = [state.model_copy(update=called) if lies and "b" in state.path else state for state in page.items]
        return page.model_copy(update={"items": items})

    small.buffer.outputs = outputs  # type: ignore[method-assign,assignment]
    small.until(lambda: small.condition("OutputsSafe").get("reason") == "BufferImplausible")
    # Nobody else has it any more: a discard of its name would destroy it.
    small.catalogue.lose("SITE-A", theirs)
    small.patch(REQUEST, teardown={"discard": {"rse": small.rse, "requestedBy": "alice"}})
    small.clock.turn(timedelta(hours=2))
    small.until(lambda: "unlisted" in small.truth["steps"])
    small.clock.turn(timedelta(minutes=10))
    small.until(lambda: f"last copy of {theirs}" in small.message)
    assert small.catalogue.replicas(small.rse, small.ledger)[theirs] == "A", "I1b: a last copy was hidden"
    told = {file.path: file.did for file in small.written_off if file.path}
    assert told["kept/b"] == ""
    assert theirs not in small.discarded


def test_nobody_else_is_asked_what_there_is_while_a_list_may_come() -> None:
    small = Small(inputs=0)
    small.buffer.sealing_steps = 10_000
    written(small)
    asked, standing = list[str](), small.catalogue.standing

    def ask(rse: str, ledger: Did) -> Standing:
        asked.append(rse)
        return standing(rse, ledger)

    small.catalogue.standing = ask  # type: ignore[method-assign]
    small.patch(REQUEST, teardown={"discard": {"rse": small.rse, "requestedBy": "alice"}})
    small.until(lambda: "discarding" in small.truth["steps"])
    small.clock.turn(timedelta(hours=2))
    small.until(lambda: "unlisted" in small.truth["steps"])
    small.clock.turn(timedelta(hours=2))
    for _ in range(3):
        small.step()
    assert not asked
    small.buffer.sealing_idle = 600
    small.until(lambda: small.truth.get("discarded"))
    assert asked


def given_up_late(small: Small) -> None:
    """Consent, and see that it counts once the deadline is over."""
    assert "spec.teardown.discard" in small.condition("OutputsSafe")["message"]
    small.patch(REQUEST, teardown={"discard": {"rse": small.rse, "requestedBy": "alice"}})
    for _ in range(40):
        small.step()
    assert not small.truth.get("discarded"), "it may be believed again"
    small.clock.turn(timedelta(hours=2))
    small.until(lambda: "unlisted" in small.truth["steps"])
    assert not small.truth.get("discarded"), "another agent may come, and be believed"
    small.clock.turn(timedelta(minutes=10))
    small.until(small.is_closed)
    assert small.truth["discarded"]["requestedBy"] == "alice"
    assert "gave no list" in small.truth["outcome"]["exceptions"][0]


def test_a_site_that_cannot_be_asked_keeps_nothing_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def size(_self: object, url: str, _token: str, _trust: str | None) -> int | None:
        raise UnreachableError(Reason.BUFFER_UNREACHABLE, url)

    monkeypatch.setattr(FakeEndpoints, "size", size)
    small = Small(inputs=0)
    written(small)
    small.until(small.is_closed)
    assert small.is_kept("kept/a", "kept/b")


@pytest.mark.parametrize("lies", [True, False])
def test_a_site_that_cannot_be_asked_hides_no_word_of_another(monkeypatch: pytest.MonkeyPatch, *, lies: bool) -> None:
    asked, real = [], FakeEndpoints.size

    def size(self: FakeEndpoints, url: str, token: str, trust: str | None) -> int | None:
        asked.append("site-a." in url)
        if asked[-1]:
            raise UnreachableError(Reason.BUFFER_UNREACHABLE, url)
        return None if lies else real(self, url, token, trust)

    monkeypatch.setattr(FakeEndpoints, "size", size)
    small = Small(inputs=0)
    output = {"name": "kept", "path": "kept/**", "scope": "user.alice", "dataset": "out"}
    small.request(inputs=[], outputs=[output | {"destination": {"rseExpression": "tier=2", "copies": 2}}])
    small.until(small.has_session)
    small.start_pod()
    small.step()
    small.write("kept/a", "kept/b")
    small.end_pod()
    if lies:
        small.until(lambda: "has no such file" in small.message)
        assert not small.truth.get("safeAt")
    else:
        small.until(small.is_closed)
        assert 2 * sum(asked) == len(asked) - sum(asked), "it is asked again though it gives no answer"


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (InputState, {"version": 1, "scope": "s", "name": "n", "path": "/store/n", "bytes": -1, "adler32": "0" * 8}),
        (InputState, {"version": 1, "scope": "s", "name": "n", "path": "/etc/n", "bytes": 1, "adler32": "0" * 8}),
        (OutputState, {"version": 1, "claim": "c", "path": "p", "state": "found", "bytes": -1}),
        (OutputState, {"version": 1, "claim": "../c", "path": "p", "state": "found", "bytes": 1}),
        (InputTotals, {"name": "in", "files": -1}),
    ],
)
def test_what_no_buffer_has_is_no_answer_of_the_protocol(model: type[_Model], told: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        model.model_validate(told)
