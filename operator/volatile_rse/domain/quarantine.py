"""Outputs that are not safe in time: kept until they are, and given up only by consent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from volatile_rse.api.agent import OutputState
from volatile_rse.api.conditions import Reason
from volatile_rse.api.rserecord import Discarded, Outcome
from volatile_rse.api.schema import parse_duration
from volatile_rse.api.text import WORDS, visible
from volatile_rse.api.volatilerse import Discard, Output
from volatile_rse.domain import effects as do
from volatile_rse.domain.catalogue import Did
from volatile_rse.domain.discard import (
    LAST_TRY,
    consent_of,
    digest_of_lost,
    is_unacknowledged,
    lost_of,
    refused_consent,
)
from volatile_rse.domain.facts import Facts, Lost, Record
from volatile_rse.domain.outputs import at_risk, did_of, empty_outputs, is_output, is_owed, unknown_copies
from volatile_rse.domain.plan import Plan, Risk, remember, request_of, risky
from volatile_rse.domain.problems import Problem
from volatile_rse.domain.stage import DISCARDING, EMPTIED, SEALED, stamp, when
from volatile_rse.domain.times import later

__all__ = [
    "SILENT",
    "UNLISTED",
    "goes_without_list",
    "is_late",
    "keep_in_quarantine",
    "outcome_of",
    "quarantined",
    "write_off",
]

UNLISTED = "unlisted"
"""Step: a discard that is due has no list of what there is, since then."""
SILENT = "silent"
"""Step: nor does the agent answer, since then."""
_PATIENCE = timedelta(minutes=10)
"""For a list of what there is, since agents and nodes restart; and for an inventory that runs without progress."""
_SAID = 99
"""What an outcome names; the kind takes one more, for what Rucio forgets later."""
_ORDER = ("torn", "failed", "found", "unmatched", "skipped", "excluded")
"""What is missed most comes first; what programs leave lying about comes last of all."""


def outcome_of(facts: Facts, record: Record, given_up: Iterable[OutputState] = ()) -> Outcome:
    """Sum up what was kept, and name what was not."""
    lost = set(given_up)
    kept = [state for state in facts.outputs or () if state.state == "sealed" and state not in lost]
    listed = (facts.told or ()) if facts.outputs is None else facts.outputs
    left = [state for state in listed if state.state != "sealed" and state not in lost]
    left.sort(key=lambda state: _ORDER.index(state.state))
    told = [(state.state, f"{state.state}: {state.path} ({state.bytes} bytes)") for state in left]
    taken = {state.output for state in kept}
    unmatched = [state for state in left if state.state == "unmatched"]
    empty = empty_outputs(record, {state.output for state in listed}) if unmatched else []
    sent = unknown_copies(facts)
    in_vain = [pfn for state in kept for pfn in sent.get(Did(state.scope or "", state.name or ""), ())]
    said = [
        *record.status.losses,
        *(_of_empty(output, unmatched) for output in empty),
        *(() if facts.outputs is not None else (f"discarded: what the buffer held; {_why_unlisted(facts)}",)),
        *(text for state, text in told if state != "excluded"),
        # Each of them is in the list of what was discarded, too.
        *(f"discarded: {state.path} ({state.bytes} bytes)" for state in listed if state in lost),
        *(f"copied, and not needed, since the dataset has the same already: {pfn}" for pfn in in_vain),
        *(text for state, text in told if state == "excluded"),
    ]
    if len(said) > _SAID:
        said = [*said[: _SAID - 1], f"and {len(said) - _SAID + 1} more"]
    return Outcome(
        files=len(kept),
        bytes=sum(state.bytes for state in kept),
        datasets=sorted(
            {f"{entry.scope}:{entry.dataset}" for entry in request_of(record).outputs if entry.name in taken}
        ),
        empty=[output.name for output in empty],
        unmatched=len(unmatched),
        exceptions=[visible(text, WORDS) for text in said],
    )


def _of_empty(output: Output, unmatched: Sequence[OutputState]) -> str:
    size, example = sum(state.bytes for state in unmatched), unmatched[0].path
    left = f"{len(unmatched)} files ({size} bytes) of no output were left, such as {example}"
    return f"empty: spec.outputs[{output.name}].path {output.path!r} took nothing, and {left}"


def keep_in_quarantine(facts: Facts, record: Record, decided: Plan) -> Plan:
    """Keep what is not safe in time, and give it up only by consent."""
    deadline = _deadline(record)
    if deadline is None or record.status.session.ready_at is None:
        return decided
    if any(isinstance(effect, do.Remember) and effect.status.safe_at for effect in decided.effects):
        return decided
    late = is_late(facts, record)
    given_up = _discarding(facts, record, decided, late=late)
    if given_up is not None:
        return given_up
    decided = replace(decided, problems=(*decided.problems, *refused_consent(facts, record)))
    return quarantined(facts, record, decided) if late else replace(decided, wake=deadline)


def quarantined(facts: Facts, record: Record, decided: Plan) -> Plan:
    """Write down that what is not safe is kept beyond its deadline; nothing of what is asked decides it."""
    if not is_late(facts, record) or record.status.session.ready_at is None or record.status.safe_at is not None:
        return decided
    risk = decided.risk or _known_risk(record)
    problems = (*decided.problems, Problem(Reason.QUARANTINED, _not_safe(record, risk)))
    truth = remember(record, quarantined_at=record.status.quarantined_at or stamp(facts.now), **risky(risk))
    # Alone: it depends on no deed, and what is tried in vain each time must not keep it back.
    effects = decided.effects if truth.status == record.status else (truth,)
    return replace(decided, effects=effects, problems=problems)


def is_late(facts: Facts, record: Record) -> bool:
    """Tell whether the deadline of a session's end is over."""
    deadline = _deadline(record)
    return deadline is not None and facts.now >= deadline


def _deadline(record: Record) -> datetime | None:
    ended = when(record.status.session.ended_at)
    return None if ended is None else later(ended, parse_duration(request_of(record).teardown.deadline))


def _discarding(facts: Facts, record: Record, decided: Plan, *, late: bool) -> Plan | None:
    """Carry out a consent: after a last try, and without Rucio's answer never.

    A list of what there is is waited for until the deadline of the end, and then as long as it is seen to come: the
    agent may be silent for good, the fence or the inventory may never come.
    """
    consent = consent_of(facts, record)
    if consent is None:
        return None
    begun = when(record.status.steps.get(DISCARDING))
    if begun is None:
        steps = {**record.status.steps, DISCARDING: stamp(facts.now)}
        return replace(decided, effects=(remember(record, steps=steps, consent=consent),))
    ends = later(_tried_from(begun, record), LAST_TRY)
    if facts.now < ends:
        return replace(decided, wake=ends)
    if late:
        steps = _waiting_steps(facts, record)
        if steps != record.status.steps:
            return replace(decided, effects=(remember(record, steps=steps),))
        if is_unlisted(facts):
            return _given_up_unseen(facts, record, consent) if goes_without_list(facts, record) else None
    left = at_risk(facts, record)
    if left is None or facts.unsafe is None or facts.unlocked is None:
        return None
    return _given_up(facts, record, consent, lost_of(left, copies=unknown_copies(facts)), left)


def is_unlisted(facts: Facts) -> bool:
    """Tell whether the agent gives no list of what there is: there is none yet, or it is not believed."""
    return facts.outputs is None or facts.copies is None or (facts.unsafe is None and _is_doubted(facts))


def _is_doubted(facts: Facts) -> bool:
    return any(problem.reason in {Reason.BUFFER_IMPLAUSIBLE, Reason.DOORS_DISAGREE} for problem in facts.problems)


def _why_unlisted(facts: Facts) -> str:
    if facts.report is None:
        return "its agent did not answer"
    return "its agent gave no list that can be relied on"


def _tried_from(begun: datetime, record: Record) -> datetime:
    """Give the begin of the last try: before its inventory nothing of a buffer was tried at all."""
    return max(begun, when(record.status.steps.get(SEALED)) or begun)


def _waiting_steps(facts: Facts, record: Record) -> dict[str, str]:
    """Give the steps with since when a discard that is due waits for a list, and for a word."""
    waits = {
        UNLISTED: is_unlisted(facts) and not _is_at_hand(facts, record),
        SILENT: _is_silent(facts),
    }
    steps = {step: at for step, at in record.status.steps.items() if waits.get(step, True)}
    return {step: stamp(facts.now) for step, lasts in waits.items() if lasts} | steps


def goes_without_list(facts: Facts, record: Record) -> bool:
    """Tell whether a discard has waited long enough for a list, which is not at hand either: each silence counts anew.

    Only then anybody else is asked for what there is.
    """
    if not is_unlisted(facts) or _is_at_hand(facts, record) or _gets_on(facts):
        return False
    since = when(record.status.steps.get(SILENT if _is_silent(facts) else UNLISTED))
    return since is not None and facts.now >= later(since, _PATIENCE)


def _is_silent(facts: Facts) -> bool:
    return facts.report is None and not _is_doubted(facts)


def _is_at_hand(facts: Facts, record: Record) -> bool:
    """Tell whether the inventory has ended, so that the next stage has its list."""
    seal = None if facts.report is None else facts.report.seal
    return seal is not None and seal.state == "done" and SEALED not in record.status.steps


def _gets_on(facts: Facts) -> bool:
    """Tell whether the inventory runs, and not in vain: what takes hours may end all the same."""
    seal = None if facts.report is None else facts.report.seal
    if seal is None or seal.state != "running" or seal.idle is None:
        return False
    return seal.idle < _PATIENCE.total_seconds()


def _given_up_unseen(facts: Facts, record: Record, consent: Discard) -> Plan | None:
    """Give up what nobody can list for certain.

    Listed is all that anybody tells of: the outputs that Rucio knows without another copy, and those that the agent has
    listed so far. What Rucio knows elsewhere is not given up; an agent that is not believed may have said so in vain.
    """
    if facts.last_copies is None:
        return None
    last = [did for did in facts.last_copies if is_output(record, did)]
    elsewhere = set(facts.replicas or ()).difference(last)
    told = [
        state for state in facts.told or () if is_owed(state) and (_is_doubted(facts) or did_of(state) not in elsewhere)
    ]
    sent: dict[Did, tuple[str, ...]] = {}
    for copy in facts.copies or ():
        did = Did(copy.scope, copy.name)
        sent[did] = (*sent.get(did, ()), copy.pfn)
    lost = [
        file if (did := Did.parse(file.did)) not in elsewhere and is_output(record, did) else replace(file, did="")
        for file in lost_of(told, last, sent)
    ]
    # What an agent tells that is not believed is not said to be kept.
    return _given_up(replace(facts, outputs=None), record, consent, sorted(lost), told)


def _given_up(
    facts: Facts, record: Record, consent: Discard, lost: Sequence[Lost], left: Sequence[OutputState] = ()
) -> Plan:
    discarded = Discarded(
        requested_by=consent.requested_by,
        at=stamp(facts.now),
        files=len(lost),
        bytes=sum(file.bytes for file in lost),
        digest=digest_of_lost(lost),
    )
    outcome = outcome_of(facts, record, left)
    truth = remember(record, discarded=discarded, safe_at=stamp(facts.now), outcome=outcome, **risky(None))
    return Plan((do.WriteOff(lost), truth))


def write_off(facts: Facts, record: Record) -> Plan | None:
    """Give up what was lost with the medium: the one exception to the rule that no last copy is destroyed."""
    consent = consent_of(facts, record)
    left = [did for did in facts.last_copies or () if did not in facts.given_up and _is_lost(facts, record, did)]
    if consent is None or not (left or is_unacknowledged(record)):
        return None
    # What was written down before stays as it was.
    lost = tuple(sorted({*facts.written_off, *lost_of((), left)}))
    before = record.status.discarded
    discarded = Discarded(
        requested_by=consent.requested_by,
        at=stamp(facts.now),
        files=len(lost),
        bytes=0 if before is None else before.bytes,
        digest=digest_of_lost(lost),
    )
    return Plan((do.WriteOff(lost), remember(record, discarded=discarded)))


def _is_lost(facts: Facts, record: Record, did: Did) -> bool:
    """Tell whether this very file went with the medium: a loss of earlier says nothing of what has come since."""
    if record.spec.adopted_from is not None or EMPTIED in record.status.steps:
        return True
    return bool(record.status.losses) and (facts.replicas or {}).get(did) == "T"


def _not_safe(record: Record, risk: Risk | None) -> str:
    if risk is None:
        return f"What the session has written to {record.spec.rse_name} is not known yet; it is kept."
    return f"{risk.files} output files ({risk.bytes} bytes) of {record.spec.rse_name} are not safe; they are kept."


def _known_risk(record: Record) -> Risk | None:
    """Give what the record knows; before the inventory, and without an agent that answers, nothing is known."""
    files, size = record.status.files_at_risk, record.status.bytes_at_risk
    return None if files is None or size is None else Risk(files, size)
