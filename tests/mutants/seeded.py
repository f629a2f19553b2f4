"""Bugs to be seeded. Each replaces a seam by its name: where the name is gone, seeding fails, and with it the run."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from threading import Thread
from typing import Any

from pydantic import SecretStr

import volatile_rse.reconcile.service as rounds
from volatile_rse.adapters import agent_client, kubernetes
from volatile_rse.adapters.rucio import doors, server
from volatile_rse.agent import (
    batch,
    copying,
    gate,
    inventory,
    ledger,
    multi,
    outbox,
    publishing,
    sealing,
    staging,
    supervisor,
    transfer,
    xrootd,
)
from volatile_rse.agent.places import sync_all
from volatile_rse.api.agent import GateState, InputState, OutputState, SiteTokens
from volatile_rse.api.conditions import Reason
from volatile_rse.api.rserecord import Claim, Outcome
from volatile_rse.api.volatilerse import Discard
from volatile_rse.builders.manifest import SiteAccess
from volatile_rse.builders.objects import session_name
from volatile_rse.domain import (
    discard,
    ending,
    entries,
    lifetime,
    mending,
    outputs,
    planning,
    provision,
    quarantine,
    rights,
    serving,
    session,
    status,
    tenants,
    versions,
)
from volatile_rse.domain import effects as do
from volatile_rse.domain.catalogue import DatasetState, LedgerOwner
from volatile_rse.domain.facts import Facts, Piece, Record
from volatile_rse.domain.identity import identify
from volatile_rse.domain.outputs import Copying
from volatile_rse.domain.plan import Plan, Risk, remember
from volatile_rse.domain.stage import SEALED, Stage, stamp
from volatile_rse.ports.cluster import Ref
from volatile_rse.ports.errors import RefusedError
from volatile_rse.reconcile import adoption, connections, datasets, execute, lease, reading, reconciler, usage
from volatile_rse.reconcile.gather import (
    credentials,
    door,
    lists,
    look,
    manifest,
    objects,
    outgoing,
    registration,
    reports,
    resolving,
    stages,
)
from volatile_rse.reconcile.gather import entries as gathered
from volatile_rse.reconcile.reading import uid_of

_DECIDING = (ending, lifetime, planning, provision, quarantine, serving)

MUTANTS: dict[str, Callable[[], None]] = {}
AGENT: set[str] = set()
"""Those of the agent: its tests alone can catch them."""


def mutant(seed: Callable[[], None]) -> Callable[[], None]:
    MUTANTS[seed.__name__] = seed
    return seed


def of_agent(seed: Callable[[], None]) -> Callable[[], None]:
    AGENT.add(seed.__name__)
    return mutant(seed)


def swap(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    """Replace what has this name by what is made of it."""
    if isinstance(owner, MutableMapping | Mapping):
        owner[name] = make(owner[name])  # type: ignore[index]
    else:
        setattr(owner, name, make(getattr(owner, name)))


def decided_by(name: str, make: Callable[[Any], Any]) -> None:
    """Replace what has this name wherever it is decided by it."""
    owners = [module for module in _DECIDING if hasattr(module, name)]
    if not owners:
        raise AttributeError(name)
    for module in owners:
        swap(module, name, make)


def believe(stage: Stage, **facts: Callable[[Facts], object]) -> None:
    """Let a stage believe something else than what was found."""
    swap(
        planning._STAGES,
        stage,
        lambda decide: lambda found, record: decide(replace(found, **{k: v(found) for k, v in facts.items()}), record),
    )


def decide(stage: Stage, change: Callable[[Plan, Facts, Record], Plan]) -> None:
    """Let a stage decide something else."""
    swap(
        planning._STAGES,
        stage,
        lambda decided: lambda facts, record: change(decided(facts, record), facts, record),
    )


def leave_out(stage: Stage, kind: type) -> None:
    decide(stage, lambda plan, _facts, _record: replace(plan, effects=_without(plan.effects, kind)))


def first(stage: Stage, *effects: do.Effect) -> None:
    decide(stage, lambda plan, _facts, _record: replace(plan, effects=(*effects, *plan.effects)))


def _without(effects: Any, kind: type) -> tuple[do.Effect, ...]:
    return tuple(effect for effect in effects if not isinstance(effect, kind))


# The order of truth and deed.


@mutant
def the_ledger_after_the_rse() -> None:
    # The address is known at the second look only: until then, the ledger would be first by chance.
    decided_by(
        "have_rse",
        lambda real: (
            lambda facts, record: (
                effect
                for effect in real(facts, record)
                if facts.rse is not None or not isinstance(effect, do.EnsureLedger)
            )
        ),
    )


@mutant
def a_session_that_nobody_remembers() -> None:
    first(Stage.SERVING, do.IssueSession())


@mutant
def a_session_before_it_is_usable() -> None:
    decided_by("is_usable", lambda _real: lambda _facts, _record: True)


@mutant
def a_session_after_its_end() -> None:
    # The namespace may be going: what cannot be created must not hold back the truth.
    first(Stage.FENCING, do.IssueSession())


@mutant
def a_half_made_rse_is_taken_for_whole() -> None:
    believe(Stage.SERVING, rse=lambda facts: facts.rse and replace(facts.rse, lacks=()))


@mutant
def the_record_before_the_finalizer() -> None:
    decided_by(
        "_without_record",
        lambda real: (
            lambda facts, instance: real(
                facts if facts.request is None or facts.request.deleting else replace(facts, request=_held(facts)),
                instance,
            )
        ),
    )


def _held(facts: Facts) -> Any:
    return replace(facts.request, held=True) if facts.request else None


@mutant
def a_truth_upon_a_deed_that_failed() -> None:
    class Nothing:
        """No effect waits for others."""

    swap(reconciler, "do", lambda real: type("Do", (), {**vars(real), "Remember": Nothing, "ReleaseRequest": Nothing}))


@mutant
def a_truth_upon_a_record_that_has_changed() -> None:
    def remember(hand: Any, effect: do.Remember) -> None:
        status = effect.status.dump()
        ref = Ref("RSERecord", None, hand._record.name)
        hand._cluster.merge(ref, {"status": status}, subresource="status")

    swap(execute._OF_RECORD, do.Remember, lambda _real: remember)  # type: ignore[arg-type]


# One that is in nobody's way.


@mutant
def all_that_look_at_once_are_let_in() -> None:
    swap(execute, "_admit", lambda _real: lambda world, _facts, spec: execute.create_record(world, spec))


@mutant
def what_is_not_seen_is_let_go() -> None:
    decided_by("_unseen", lambda _real: lambda _facts, _record, why: Plan((do.ReleaseRequest(),), (why,)))


@mutant
def a_record_that_cannot_be_read_ends_the_sweep() -> None:
    def read(real: Callable[[Any], Record], body: Any) -> Record:
        try:
            return real(body)
        except RefusedError as error:
            raise ValueError(error) from error

    swap(rounds, "read_record", lambda real: lambda body: read(real, body))


@mutant
def inputs_have_no_deadline() -> None:
    swap(serving, "_stalled", lambda _real: lambda *_: ())


@mutant
def a_session_ends_only_when_all_else_is_done() -> None:
    def late(plan: Plan, _facts: Facts, _record: Record) -> Plan:
        return replace(plan, effects=tuple(sorted(plan.effects, key=lambda effect: isinstance(effect, do.Remember))))

    decide(Stage.SERVING, late)


@mutant
def what_inputs_share_is_counted_for_each() -> None:
    swap(serving, "distinct", lambda _real: lambda inputs: [file for files in inputs.values() for file in files])


@mutant
def a_changed_list_of_inputs_counts() -> None:
    swap(lists, "_unaltered", lambda _real: lists._read)


@mutant
def the_sweep_forgets_what_came_meanwhile() -> None:
    swap(rounds.Service, "_forget", lambda _real: lambda self, _gone: self._known.clear())


@mutant
def the_search_holds_up_the_sweep() -> None:
    swap(rounds.Service, "sweep", lambda real: lambda self: (self.search(), real(self)))


@mutant
def what_is_no_token_is_given_to_agents() -> None:
    def given(body: Any) -> Any:
        texts = {host: SecretStr(text) for host, text in reading.texts_of(body).items()}
        return {host: SiteTokens(read=text, write=text) for host, text in texts.items()}, ()

    swap(credentials, "tokens_of", lambda _real: given)


@mutant
def a_login_goes_wherever_a_connection_leads() -> None:
    swap(connections, "_mismatch", lambda _real: lambda _connection, _server: None)


@mutant
def every_agent_gets_all_tokens() -> None:
    swap(SiteAccess, "needed", lambda _real: lambda self, _sources, _destinations: self)


@mutant
def the_scope_of_a_file_does_not_count() -> None:
    swap(resolving, "problems_of_files", lambda _real: lambda *_asked: ())


@mutant
def a_token_reads_the_scope_of_a_dataset_instead_of_its_files() -> None:
    def named(claim: Claim) -> list[str]:
        return [entry.did.partition(":")[0] for entry in claim.request.inputs]

    swap(door, "token_scope", lambda real: lambda claim, _scopes: real(claim, named(claim)))


# The end of a session.


@mutant
def the_fence_is_skipped() -> None:
    def skip(plan: Plan, facts: Facts, record: Record) -> Plan:
        if record.status.session.ready_at is None:
            return plan
        steps = {**record.status.steps, SEALED: stamp(facts.now)}
        return Plan((remember(record, steps=steps),))

    decide(Stage.FENCING, skip)


@mutant
def the_fence_is_not_proven() -> None:
    believe(Stage.FENCING, writable=lambda facts: False if facts.report else None)


@mutant
def a_door_that_refuses_everybody_is_fenced() -> None:
    swap(door, "_control", lambda _real: lambda _look: None)


@mutant
def what_others_wrote_is_taken_for_ours() -> None:
    swap(objects, "is_as_written", lambda _real: lambda *_: True)


@mutant
def the_session_keeps_its_token() -> None:
    swap(
        reconciler,
        "plan",
        lambda real: (
            lambda facts, instance: replace(
                decided := real(facts, instance), effects=_without(decided.effects, do.RevokeSession)
            )
        ),
    )


@mutant
def an_end_is_taken_back() -> None:
    decided_by("advance", lambda real: lambda state, seen, limits: real(_never_ended(state), seen, limits))
    swap(session, "advance", lambda real: lambda state, seen, limits: real(_never_ended(state), seen, limits))


def _never_ended(state: session.SessionState) -> session.SessionState:
    return replace(state, ended_at=None, end_reason=None)


@mutant
def nobody_is_waited_for() -> None:
    swap(session, "_pods", lambda _real: lambda state, _seen: state)


@mutant
def an_unnoticed_loss() -> None:
    decided_by("noticed_volume", lambda _real: lambda _facts, _record: None)


# Outputs.


@mutant
def safe_before_anything_is_kept() -> None:
    def safe(_plan: Plan, facts: Facts, record: Record) -> Plan:
        return Plan((remember(record, safe_at=stamp(facts.now), outcome=Outcome(files=0, bytes=0)),))

    decide(Stage.KEEPING, safe)


@mutant
def safe_before_verify() -> None:
    def arrived(groups: Any, _copies: Any, _chosen: Any) -> Copying:
        return Copying(frozenset(), moving=False, arrived={name: tuple(files) for name, files in groups.items()})

    decided_by("copying_of", lambda _real: arrived)
    for owner in (outgoing, outputs):
        swap(owner, "copying_of", lambda _real: arrived)


@mutant
def safe_is_not_asked() -> None:
    swap(outgoing, "_unsafe", lambda _real: lambda look, _outputs: look.set(unsafe={}))


@mutant
def rules_are_not_asked() -> None:
    swap(outgoing, "_unlocked", lambda _real: lambda *_: frozenset())


@mutant
def a_dataset_is_judged_once() -> None:
    swap(outputs, "_taking", lambda _real: lambda facts, _record: {n for n, known in facts.datasets.items() if known})


@mutant
def a_dataset_is_made_after_the_copies() -> None:
    swap(outputs, "_taking", lambda _real: lambda facts, _record: set(facts.datasets))


@mutant
def two_versions_of_one_path() -> None:
    swap(datasets, "versions_in", lambda _real: lambda *_: {})


@mutant
def another_version_counts_as_the_same() -> None:
    swap(versions, "is_same", lambda _real: lambda _file, _other: True)


@mutant
def the_same_version_counts_wherever_it_is() -> None:
    for stage in (Stage.KEEPING, Stage.HIDING):
        believe(stage, unsafe=lambda facts: facts.unsafe and dict.fromkeys(facts.unsafe, ()))


@mutant
def nobody_waits_for_their_turn() -> None:
    swap(datasets.Datasets, "turn", lambda _real: lambda _self, _dataset, _record: 0)


@mutant
def any_dataset_is_fresh() -> None:
    swap(outputs, "problem_of_dataset", lambda real: lambda o, a, r, known: real(o, a, r, known and _made(known, r)))
    swap(
        execute._OF_RECORD,
        do.EnsureDataset,  # type: ignore[arg-type]
        lambda real: lambda hand, effect: real(hand, replace(effect, fresh=False)),
    )


def _made(known: DatasetState, record_id: str) -> DatasetState:
    return replace(known, maker=record_id)


@mutant
def a_rule_upon_an_attachment_that_failed() -> None:
    class Nothing:
        """No rule waits for anything."""

    swap(reconciler, "do", lambda real: type("Do", (), {**vars(real), "Attach": Nothing}))


@mutant
def a_rule_of_the_whole_dataset_counts() -> None:
    class Whole:
        """Nobody asks for the locks of single files."""

        def __init__(self, real: Any) -> None:
            self._real = real

        def __getattr__(self, name: str) -> Any:
            asked = getattr(self._real, name)
            return (lambda *args: asked(*args[:4])) if name == "locked_by" else asked

    swap(look.Look, "safety", lambda real: lambda self: Whole(real(self)))


@mutant
def rules_that_hold_nothing_are_not_named() -> None:
    swap(ending, "pending_rules", lambda _real: lambda *_: ())


@mutant
def any_rule_lasts() -> None:
    swap(outgoing, "lifetime_of", lambda _real: lambda _output: 0)


@mutant
def the_rule_before_the_replicas() -> None:
    def early(real: Any) -> Any:
        def keep(facts: Facts, record: Record, copying: Any) -> Any:
            kept = list(real(facts, record, copying))
            rules = [
                do.EnsureRule(effect.dataset, record.spec.claims[0].account, [effect.rse], None)
                for effect in kept
                if isinstance(effect, do.Attach)
            ]
            made = [effect for effect in kept if isinstance(effect, do.EnsureDataset)]
            return [*made, *rules, *kept]

        return keep

    swap(outputs, "_kept", early)


@mutant
def attached_to_the_buffer() -> None:
    swap(
        execute._OF_RECORD,
        do.Attach,  # type: ignore[arg-type]
        lambda real: lambda hand, effect: real(hand, replace(effect, rse=hand._spec.rse_name)),
    )


@mutant
def registered_without_checksum() -> None:
    def bare(real: Any) -> Any:
        return lambda hand, effect: real(
            hand, replace(effect, files=[replace(file, adler32="00000001") for file in effect.files])
        )

    swap(execute._OF_RECORD, do.Register, bare)  # type: ignore[arg-type]


@mutant
def one_of_two_copies() -> None:
    def one(real: Any) -> Any:
        return lambda status: {name: rses[:1] for name, rses in real(status).items()}

    decided_by("chosen_of", one)
    for owner in (outgoing, outputs):
        swap(owner, "chosen_of", one)


# What is given up.


@mutant
def a_discard_that_names_another_buffer() -> None:
    decided_by(
        "consent_of",
        lambda _real: lambda facts, record: record.spec.discard if facts.request is None else discard._of_owner(facts),
    )


@mutant
def an_admin_discards_in_the_owners_place() -> None:
    decided_by(
        "consent_of",
        lambda real: lambda facts, record: real(facts, record) or real(replace(facts, request=None), record),
    )


@mutant
def a_discard_that_nobody_asked_for() -> None:
    decided_by("consent_of", lambda _real: lambda _facts, _record: Discard(rse="x", requested_by="nobody"))


@mutant
def a_discard_without_a_list() -> None:
    leave_out(Stage.KEEPING, do.WriteOff)
    decided_by("_discarding", lambda real: lambda *args, **late: _unlisted(real(*args, **late)))


def _unlisted(plan: Plan | None) -> Plan | None:
    return None if plan is None else replace(plan, effects=_without(plan.effects, do.WriteOff))


@mutant
def a_silent_buffer_is_given_up_without_asking_rucio() -> None:
    decided_by(
        "_given_up_unseen",
        lambda _real: lambda facts, record, consent: quarantine._given_up(facts, record, consent, ()),
    )


@mutant
def any_loss_gives_up_every_last_copy() -> None:
    swap(
        quarantine,
        "_is_lost",
        lambda _real: lambda _facts, record, _did: bool(record.status.losses or record.spec.adopted_from),
    )


@mutant
def a_discard_waits_for_a_list_that_never_comes() -> None:
    decided_by("is_unlisted", lambda _real: lambda facts: facts.report is None)


@mutant
def what_is_never_believed_is_never_given_up() -> None:
    decided_by("is_unlisted", lambda _real: lambda facts: facts.outputs is None)


@mutant
def a_discard_waits_for_no_list_that_comes() -> None:
    swap(quarantine, "_PATIENCE", lambda _real: timedelta(seconds=-1))


@mutant
def a_discard_waits_for_no_inventory_that_runs() -> None:
    decided_by("_gets_on", lambda _real: lambda _facts: False)


@mutant
def a_discard_waits_for_an_inventory_that_hangs() -> None:
    decided_by("_gets_on", lambda _real: _runs)


def _runs(facts: Facts) -> bool:
    seal = None if facts.report is None else facts.report.seal
    return seal is not None and seal.state == "running"


@mutant
def the_wait_of_an_earlier_silence_counts() -> None:
    decided_by(
        "_discarding",
        lambda real: lambda facts, record, *args, **late: real(facts, _waited(facts, record), *args, **late),
    )


def _waited(facts: Facts, record: Record) -> Record:
    if quarantine.is_unlisted(facts):
        return record
    waits = {quarantine.UNLISTED, quarantine.SILENT}
    steps = {step: at for step, at in record.status.steps.items() if step not in waits}
    return replace(record, status=record.status.model_copy(update={"steps": steps}))


@mutant
def a_moment_of_silence_ends_a_long_wait() -> None:
    decided_by("_is_silent", lambda _real: lambda _facts: False)


@mutant
def a_list_at_hand_is_not_taken() -> None:
    decided_by("_is_at_hand", lambda _real: lambda _facts, _record: False)


@mutant
def a_discard_leaves_no_time_for_a_try() -> None:
    decided_by("_tried_from", lambda _real: lambda begun, _record: begun)


@mutant
def an_answer_of_rucio_is_taken_as_it_comes() -> None:
    swap(server, "fault_of", lambda _real: lambda _method, _answer: "")


@mutant
def an_answer_of_the_api_server_is_taken_as_it_comes() -> None:
    swap(kubernetes, "_sound", lambda _real: lambda body, _verb, _about: body)


@mutant
def a_name_may_lead_anywhere() -> None:
    swap(kubernetes, "quote", lambda real: lambda part, **_named: real(part, safe="/", errors="surrogatepass"))


@mutant
def pages_of_an_agent_have_no_end() -> None:
    def page(self: Any, model: Any, listing: str, after: int) -> Any:
        return self._parsed(model, self._call("GET", listing, query={"after": after, "limit": 1000}))

    swap(agent_client.AgentClient, "_page", lambda _real: page)


@mutant
def what_stands_in_a_status_is_believed() -> None:
    swap(reconciler, "_said_before", lambda _real: lambda body: body.get("status") or {})


@mutant
def a_record_of_the_far_future_is_young() -> None:
    swap(reconciler, "later", lambda _real: lambda moment, span: moment + span)


@of_agent
def an_inventory_that_reads_does_not_say_so() -> None:
    swap(sealing.Sealing, "_gets_on", lambda _real: lambda _self: None)


@mutant
def what_an_agent_has_found_so_far_is_not_listed() -> None:
    swap(reports, "told", lambda _real: lambda _look: None)


@mutant
def a_discard_names_what_is_no_output() -> None:
    swap(quarantine, "is_output", lambda _real: lambda _record, _did: True)


@mutant
def a_fence_that_never_comes_is_not_told() -> None:
    decided_by("_is_overdue", lambda _real: lambda _facts, _record: False)


@mutant
def what_is_not_known_is_nothing() -> None:
    decided_by(
        "_known_risk",
        lambda _real: lambda record: Risk(record.status.files_at_risk or 0, record.status.bytes_at_risk or 0),
    )


@mutant
def a_quarantine_of_which_nothing_is_known_takes_no_room() -> None:
    swap(usage, "_at_risk", lambda _real: lambda body: body["status"].get("bytesAtRisk") or 0)


@mutant
def a_quarantine_that_no_waiting_cures_is_none() -> None:
    def phase(facts: Facts, plan: Plan, real: Any) -> Any:
        return "Stalled" if any(problem.reason in status.STALLING for problem in plan.problems) else real(facts, plan)

    swap(status, "_phase", lambda real: lambda facts, plan: phase(facts, plan, real))


@mutant
def what_keeps_published_files_back_is_told_at_the_end() -> None:
    def kept_back(real: Any) -> Any:
        def told(facts: Facts, record: Record, plan: Plan) -> Any:
            return real(facts, record, plan) if record.status.session.ended_at is not None else None

        return told

    swap(status, "_kept_back", kept_back)


@mutant
def what_is_torn_is_told_last() -> None:
    swap(quarantine, "_ORDER", lambda real: real[::-1])


@mutant
def copies_that_nobody_names() -> None:
    decided_by("unknown_copies", lambda _real: lambda _facts: {})


@mutant
def a_discard_of_all() -> None:
    decided_by("at_risk", lambda _real: lambda facts, _record: facts.outputs)


@mutant
def a_deadline_that_destroys() -> None:
    def late(facts: Facts, record: Record, decided: Plan) -> Plan:
        if not any(problem.reason is Reason.QUARANTINED for problem in real(facts, record, decided).problems):
            return real(facts, record, decided)
        return Plan((remember(record, safe_at=stamp(facts.now), outcome=Outcome(files=0, bytes=0)),))

    real = quarantine.keep_in_quarantine
    decided_by("keep_in_quarantine", lambda _real: late)


@mutant
def one_refused_file_keeps_the_others_back() -> None:
    def all_or_nothing(real: Any) -> Any:
        def steps(facts: Facts, record: Record, groups: Any, copying: Any) -> Any:
            found = real(facts, record, groups, copying)
            first_ones = [effect for effect in found if isinstance(effect, do.Register)]
            return first_ones or found

        return steps

    decided_by("next_steps", all_or_nothing)


@mutant
def a_loss_is_what_an_agent_tells() -> None:
    swap(objects, "storage", lambda real: lambda look: replace(real(look), lost=False))


@mutant
def a_pod_whose_agent_restarts_has_nothing() -> None:
    swap(provision, "_runs_on", lambda _real: lambda facts: facts.storage.pod is not None and facts.storage.pod.ready)


@mutant
def people_are_sent_to_what_is_lost() -> None:
    decided_by("hide_lost", lambda _real: lambda _facts, _record: ())


@mutant
def what_is_lost_is_told_to_nobody() -> None:
    decided_by("is_unacknowledged", lambda _real: lambda _record: False)


@mutant
def what_is_lost_is_hidden_after_the_fence_alone() -> None:
    leave_out(Stage.FENCING, do.Suspend)


@mutant
def people_are_sent_to_what_a_cluster_has_lost() -> None:
    decided_by("_hide_all", lambda _real: lambda _facts: ())


@mutant
def whoever_comes_takes_an_rse_over() -> None:
    swap(adoption, "_unlike", lambda _real: lambda *_: "")


@mutant
def a_buffer_that_is_here_is_taken_for_lost() -> None:
    swap(adoption, "_not_lost", lambda _real: lambda *_: "")


@mutant
def an_rse_without_an_address_is_not_looked_for() -> None:
    swap(registration, "_may_have_rse", lambda _real: lambda spec: spec.public is not None)


@mutant
def what_the_reaper_cannot_reach_is_taken() -> None:
    swap(adoption, "_beyond_reach", lambda _real: lambda *_: "")


@mutant
def what_an_adopted_rse_needs_may_go() -> None:
    swap(adoption, "_hold_used", lambda _real: lambda *_: None)


@mutant
def who_made_an_rse_is_forgotten() -> None:
    swap(LedgerOwner, "heir", lambda _real: lambda owner, instance: LedgerOwner(instance, owner.record_id))


@mutant
def a_list_that_is_gone_lists_nothing() -> None:
    swap(lists, "frozen_again", lambda _real: lambda _look: None)


@mutant
def a_session_without_enough_inputs() -> None:
    decided_by("_enough", lambda _real: lambda *_: True)


@mutant
def every_input_is_registered() -> None:
    def all_of(real: Any) -> Any:
        def arrived(facts: Facts, record: Record) -> Any:
            snapshot = record.spec.class_snapshot.model_copy(update={"max_registered_replicas": 100_000})
            spec = record.spec.model_copy(update={"class_snapshot": snapshot})
            return real(facts, replace(record, spec=spec))

        return arrived

    decided_by("_arrived", all_of)


@mutant
def sources_are_asked_for_once() -> None:
    swap(manifest, "_found_since", lambda _real: lambda _look, _report: {})


@mutant
def what_has_arrived_counts_twice() -> None:
    decided_by(
        "_no_room",
        lambda real: (
            lambda facts, record: real(
                replace(facts, report=facts.report and facts.report.model_copy(update={"partial_bytes": 0})), record
            )
        ),
    )


@mutant
def an_end_that_nobody_hears() -> None:
    decided_by(
        "advance",
        lambda real: lambda state, seen, limits: real(state, replace(seen, requested=False), limits),
    )


@mutant
def the_volume_is_not_retained() -> None:
    decided_by(
        "have_storage",
        lambda real: lambda facts, record: iter(_without(real(facts, record), do.RetainVolume)),
    )


@mutant
def a_volume_that_outlived_its_claim_is_forgotten() -> None:
    swap(objects, "read_outlived", lambda _real: lambda _claim, _volumes: None)


@mutant
def released_too_early() -> None:
    def early(facts: Facts, _record: Record) -> tuple[do.Effect, ...]:
        request = facts.request
        return (do.ReleaseRequest(),) if request is not None and request.deleting and request.held else ()

    decided_by("_release", lambda _real: early)


# The drain.


@mutant
def nothing_keeps_a_buffer() -> None:
    decided_by("_not_yet", lambda _real: lambda _facts, _record: ())


@mutant
def last_copies_do_not_matter() -> None:
    believe(Stage.HIDING, last_copies=lambda facts: None if facts.last_copies is None else ())


@mutant
def anybodys_rule_is_ended() -> None:
    believe(
        Stage.HIDING,
        foreign_rules=lambda facts: (
            facts.foreign_rules and tuple(replace(r, only_here=True) for r in facts.foreign_rules)
        ),
    )


@mutant
def an_rse_that_is_gone_needs_no_asking() -> None:
    def free(plan: Plan, facts: Facts, record: Record) -> Plan:
        absent = facts.rse_asked and facts.ledger is not None and facts.rse is None
        return Plan((remember(record, freed_at=stamp(facts.now)),)) if absent else plan

    decide(Stage.HIDING, free)


@mutant
def what_is_kept_again_needs_no_rule() -> None:
    believe(Stage.HIDING, unlocked=lambda _facts: frozenset())


@mutant
def a_destination_that_has_lost_it_is_believed() -> None:
    believe(
        Stage.HIDING,
        found_again=lambda facts: frozenset(did for dids in (facts.unsafe or {}).values() for did in dids),
    )


@mutant
def hide_is_skipped() -> None:
    believe(Stage.HIDING, replicas=lambda facts: facts.replicas and dict.fromkeys(facts.replicas, "B"))


@mutant
def hidden_only_once() -> None:
    decide(
        Stage.HIDING,
        lambda plan, _facts, _record: (
            replace(plan, effects=tuple(effect for effect in plan.effects if not isinstance(effect, do.Hide)))
            if any(isinstance(effect, do.Remember) for effect in plan.effects)
            else plan
        ),
    )


@mutant
def hidden_in_part() -> None:
    swap(
        execute._OF_RECORD,
        do.Hide,  # type: ignore[arg-type]
        lambda real: lambda hand, effect: real(hand, replace(effect, files=effect.files[:0])),
    )


@mutant
def the_empty_server_is_not_awaited() -> None:
    believe(Stage.HIDING, storage=lambda facts: replace(facts.storage, drain_ready=True))


@mutant
def the_empty_server_is_skipped() -> None:
    leave_out(Stage.HIDING, do.MakeDrain)
    decide(
        Stage.HIDING,
        lambda plan, facts, record: (
            Plan((remember(record, freed_at=stamp(facts.now)),))
            if any(isinstance(effect, do.SwapService) for effect in plan.effects) or plan.waiting == "the empty server"
            else plan
        ),
    )


@mutant
def the_reaper_before_the_storage() -> None:
    first(Stage.HIDING, do.AllowDeletion())


@mutant
def the_rse_before_its_replicas() -> None:
    decided_by("_deregister", lambda _real: lambda _facts, _record, effects: Plan((*effects, do.DeleteRse())))


@mutant
def the_ledger_before_the_rse() -> None:
    first(Stage.DRAINING, do.ExpireLedger())


@mutant
def the_address_before_the_rse() -> None:
    def drop(plan: Plan, facts: Facts, _record: Record) -> Plan:
        uid = facts.storage.pieces.get(Piece.SERVICE)
        return plan if uid is None else replace(plan, effects=(do.DropPiece(Piece.SERVICE, uid), *plan.effects))

    decide(Stage.DRAINING, drop)


@mutant
def destroyed_while_rucio_is_away() -> None:
    def drop(plan: Plan, facts: Facts, _record: Record) -> Plan:
        pieces = facts.storage.pieces
        drops = tuple(do.DropPiece(p, uid) for p, uid in pieces.items() if p != Piece.SERVICE)
        return plan if facts.rse_asked else replace(plan, effects=drops)

    decide(Stage.DRAINING, drop)
    decide(Stage.HIDING, drop)


@mutant
def the_record_is_released_early() -> None:
    first(Stage.DRAINING, do.ReleaseRecord())


# What somebody has deleted.


@mutant
def copies_are_looked_for_where_they_were_written() -> None:
    swap(outgoing, "_pfns", lambda real: lambda look, wanted, **_: real(look, wanted))


@mutant
def a_priority_of_0_means_never() -> None:
    swap(doors, "_rank", lambda real: lambda *asked: real(*asked) or None)


@mutant
def what_answers_the_reaper_does_not_come_again() -> None:
    decided_by("_answer_reaper", lambda _real: lambda _facts: ())


@mutant
def an_address_that_moves() -> None:
    swap(
        execute,
        "public_service",
        lambda real: lambda settings, spec, **how: real(settings, spec.model_copy(update={"public": None}), **how),
    )


@mutant
def what_was_freed_gets_its_address_back() -> None:
    def make(real: Any) -> Any:
        def made(hand: Any, effect: do.MakePiece) -> None:
            standing = hand._record.status.model_copy(update={"freed_at": None})
            real(
                execute._Hand(hand._world, hand._connections, hand._facts, replace(hand._record, status=standing)),
                effect,
            )

        return made

    swap(execute._OF_RECORD, do.MakePiece, make)  # type: ignore[arg-type]


@mutant
def half_of_what_a_session_needs_is_enough() -> None:
    swap(objects, "read_session", lambda real: lambda *args: replace(fact := real(*args), objects=fact.remains))


@mutant
def no_job_is_awaited() -> None:
    swap(objects, "is_awaited", lambda _real: lambda *_: False)


@mutant
def a_pod_that_never_ran_has_come() -> None:
    swap(reading, "has_come", lambda _real: lambda _pod: True)


@mutant
def what_a_rule_keeps_is_left_in_pieces() -> None:
    decide(
        Stage.HIDING,
        lambda plan, _facts, _record: replace(
            plan, effects=tuple(effect for effect in plan.effects if effect != do.MakePiece(Piece.POD))
        ),
    )


@mutant
def nobody_is_told_what_keeps_rucio_from_being_asked() -> None:
    def ask(real: Any) -> Any:
        def asked(looking: Any) -> None:
            real(looking)
            if not looking.facts.rse_asked:
                looking.problems = [p for p in looking.problems if p.reason is not Reason.CREDENTIAL_MISSING]

        return asked

    swap(registration, "rse", ask)


# What is not ours.


@mutant
def names_are_used_twice() -> None:
    for module in (planning, stages):
        swap(module, "identify", lambda _real: lambda instance, _uid: identify(instance, ""))


@mutant
def somebody_elses_object_is_deleted() -> None:
    def revoke(hand: Any, _effect: do.RevokeSession) -> None:
        claim = hand._spec.claims[0]
        for kind in ("Secret", "ConfigMap"):
            ref = Ref(kind, claim.namespace, session_name(claim.name))
            if (body := hand._cluster.get(ref)) is not None:
                hand._cluster.delete(ref, uid_of(body))

    swap(execute._OF_RECORD, do.RevokeSession, lambda _real: revoke)  # type: ignore[arg-type]


@mutant
def somebody_elses_record_is_worked_on() -> None:
    swap(
        reconciler,
        "plan",
        lambda real: lambda facts, instance: real(facts, facts.record.spec.instance if facts.record else instance),
    )


@mutant
def it_runs_again() -> None:
    decided_by("stage_of", lambda real: lambda status: _again(real(status)))


def _again(stage: Stage) -> Stage:
    return Stage.SERVING if stage is Stage.CLOSED else stage


@mutant
def what_is_published_waits_for_the_end() -> None:
    decided_by("_published", lambda _real: lambda _facts, _record: ([], ""))


@mutant
def what_rucio_said_before_counts_where_something_is_destroyed() -> None:
    swap(look, "_LIVE", lambda _real: frozenset())


@mutant
def outputs_are_safe_from_memory() -> None:
    swap(look.Look, "safety", lambda _real: lambda self: self.catalogue())


@mutant
def watches_that_nobody_misses() -> None:
    swap(lease.Lease, "saw", lambda _real: lambda self, _body: setattr(self, "_echoed", self._seconds()))


@mutant
def a_lie_of_the_agent_is_believed() -> None:
    swap(reports, "believe", lambda _real: lambda _look, _doubt: None)


@mutant
def no_destination_is_asked_itself() -> None:
    swap(outgoing, "spot_check", lambda _real: lambda _look: True)


# The agent.


@of_agent
def what_is_being_written_at_the_fence_is_not_marked() -> None:
    swap(supervisor, "tear", lambda _real: lambda _handles: 0)


@of_agent
def the_server_goes_on_while_it_is_looked_at() -> None:
    swap(xrootd.Server, "hold", lambda _real: lambda _self: None)


@of_agent
def what_is_torn_is_sealed() -> None:
    swap(outbox.Found, "torn", lambda _real: property(lambda _self: False))


@of_agent
def what_is_open_is_published() -> None:
    swap(publishing, "is_written", lambda _real: lambda _path: False)


@of_agent
def two_versions_of_a_path_are_published() -> None:
    swap(publishing.Publishing, "_is_sealed", lambda _real: lambda _self, _find: False)


@of_agent
def what_is_in_the_publish_directory_is_not_looked_at() -> None:
    swap(inventory, "AREAS", lambda _real: ("outbox",))


@of_agent
def it_is_sealed_before_the_fence_stands() -> None:
    def order(self: Any, request: Any, real: Any) -> None:
        self._gate.reached(GateState(mode="fenced", generation=request.generation))
        real(self, request)

    swap(sealing.Sealing, "order", lambda real: lambda self, request: order(self, request, real))


@of_agent
def what_was_sealed_and_has_gone_is_not_missed() -> None:
    swap(sealing.Sealing, "miss", lambda _real: lambda _self: None)


@of_agent
def a_damaged_directory_ends_the_inventory() -> None:
    def ended(_path: bytes, error: OSError) -> None:
        raise error

    swap(sealing, "walk", lambda real: lambda root, _failed: real(root, ended))


@of_agent
def a_damaged_directory_is_of_no_output() -> None:
    swap(sealing, "rule_below", lambda _real: lambda _claim, _path, _rules: None)


@of_agent
def a_file_that_cannot_be_synced_ends_the_inventory() -> None:
    def synced(_self: Any, work: Any, _rows: Any, places_of: Any) -> Any:
        sync_all(sorted({path for find in work for path in places_of(find)}))
        return work

    swap(sealing.Sealing, "_synced", lambda _real: synced)


@of_agent
def a_second_version_that_was_removed_is_forgotten() -> None:
    def run(self: Any, request: Any, real: Any) -> None:
        apart = [key for key, state in self._ledger.every(OutputState).items() if sealing._is_apart(key, state)]
        self._ledger.drop(apart)
        real(self, request)

    swap(sealing.Sealing, "run", lambda real: lambda self, request: run(self, request, real))


@of_agent
def an_older_fence_counts() -> None:
    def fence(self: Any, generation: int) -> GateState:
        wanted = GateState(mode="fenced", generation=generation)
        self._write(gate._DESIRED, wanted)
        return wanted

    swap(gate.Gate, "fence", lambda _real: fence)


@of_agent
def the_gate_needs_room() -> None:
    swap(gate, "is_full", lambda _real: lambda _error: False)


@of_agent
def no_checksum_of_an_input_is_compared() -> None:
    swap(staging._Download, "check", lambda _real: lambda _self, _source: None)


@of_agent
def a_name_comes_before_the_sync() -> None:
    def settle(self: Any, files: Any, real: Any) -> None:
        for file in files:
            self._name(file)
        real(self, files)

    swap(staging.Staging, "_settle", lambda real: lambda self, files: settle(self, files, real))


@of_agent
def what_was_left_is_not_read_again() -> None:
    def read_again(_self: Any) -> Any:
        yield from ()

    swap(staging._Download, "read_again", lambda _real: read_again)


@of_agent
def no_copy_is_compared() -> None:
    def seeded(real: Any) -> Any:
        def compared(pfn: str, access: Any, output: Any) -> Any:
            found = yield from real(pfn, access, output)
            return found if found == copying._NOTHING else None

        return compared

    swap(copying, "_compared", seeded)


@of_agent
def what_cannot_be_judged_is_overwritten() -> None:
    swap(copying, "_adler32", lambda real: lambda digest: real(digest) or "00000000")


@of_agent
def what_a_header_leaves_out_condemns_a_copy() -> None:
    def seeded(real: Any) -> Any:
        def said(answer: Any, pfn: str, output: Any) -> Any:
            found = real(answer, pfn, output)
            return found if found.is_right or found.wrong else copying._Said(wrong="no bytes", is_wrong_twice=True)

        return said

    swap(copying, "_said", seeded)


@of_agent
def directories_are_not_made() -> None:
    swap(copying, "_HOMELESS", lambda _real: frozenset())


@of_agent
def all_is_read_without_tls() -> None:
    swap(transfer.Access, "reads_plainly", lambda _real: lambda *_: True)


@of_agent
def a_token_goes_wherever_a_site_sends_us() -> None:
    swap(transfer.Access, "is_for", lambda _real: lambda *_: True)


@of_agent
def a_token_may_hold_a_header() -> None:
    swap(transfer, "is_token", lambda _real: lambda _text: True)


@of_agent
def a_file_with_md5_alone_is_compared_with_nothing() -> None:
    swap(staging._Download, "check", lambda real: lambda self, source: None if self._md5 else real(self, source))


@of_agent
def a_file_with_md5_alone_is_fetched_again() -> None:
    swap(staging.Staging, "_present", lambda real: lambda self, file: file.md5 is None and real(self, file))


@mutant
def a_file_that_can_be_no_input_refuses_them_all() -> None:
    swap(resolving, "is_enough", lambda _real: lambda _entry, files: not any(file.lack for file in files))


@mutant
def files_that_can_be_no_input_do_not_count_as_missing() -> None:
    swap(resolving, "is_enough", lambda _real: lambda _entry, _files: True)


@mutant
def a_session_whose_begin_cannot_be_read_never_began() -> None:
    swap(mending, "_session", lambda _real: lambda told, _lost, _created, _ended: told)


@mutant
def what_is_safe_stays_safe_where_nobody_knows_any_more_where() -> None:
    swap(mending, "_without_safe", lambda _real: lambda status, _lost: status)


@mutant
def an_anonymous_site_is_shown_a_token_all_the_same() -> None:
    swap(
        SiteAccess,
        "needed",
        lambda real: (
            lambda self, sources, destinations: real(replace(self, anonymous=frozenset()), sources, destinations)
        ),
    )


@of_agent
def a_dead_thread_is_not_missed() -> None:
    for module in (batch, inventory, multi, publishing):
        swap(module, "worker", lambda _real: lambda name, run: Thread(target=run, name=name, daemon=True))


@mutant
def a_namespace_is_its_name() -> None:
    swap(usage, "is_of", lambda _real: lambda namespace, name, _uid, _created: name == namespace.name)


@mutant
def a_grant_is_for_whoever_has_the_name() -> None:
    swap(rights, "lack_of", lambda real: lambda grant, namespace: real(grant, replace(namespace, uid=grant.uid or "")))


@mutant
def a_label_that_is_missing_grants_all_the_same() -> None:
    swap(tenants, "_lacks", lambda _real: lambda _selector, _labels: iter(()))


@mutant
def an_adopted_rse_is_the_namespaces_of_its_name() -> None:
    def named(**claim: Any) -> Claim:
        return Claim(**{**claim, "namespace_uid": None})

    swap(adoption, "Claim", lambda _real: named)


@mutant
def what_is_added_is_waited_for() -> None:
    swap(serving, "_awaited_inputs", lambda _real: lambda record: [entry.name for entry in record.status.inputs or ()])


@mutant
def what_is_refused_is_taken_up() -> None:
    swap(entries, "_accepted", lambda _real: lambda facts, kind, name: facts.judged.get((kind, name)))


@mutant
def a_refused_entry_is_the_buffers_problem() -> None:
    def told(self: look.Look) -> Any:
        return nullcontext(self.problems)

    swap(look.Look, "apart", lambda _real: told)


@mutant
def the_room_for_an_added_input_is_not_looked_at() -> None:
    swap(gathered, "problem_of_room", lambda _real: lambda *_: None)


@mutant
def a_token_lacks_what_was_added() -> None:
    swap(objects, "_outdated_of", lambda _real: lambda *_: ())


@mutant
def a_removed_input_stays_one() -> None:
    swap(reading, "_without_removed", lambda _real: lambda status: status)


@mutant
def who_waits_is_told_at_each_look() -> None:
    swap(planning, "words_of", lambda real: lambda *of: real(*of).model_copy(update={"digest": f"{next(_TOLD):064x}"}))


@of_agent
def an_input_that_shares_files_is_not_counted() -> None:
    swap(ledger.Ledger, "input_entries", lambda _real: lambda self: {key: _Any() for key in self.every(InputState)})


_TOLD = itertools.count()


class _Any:
    """Equal to everything."""

    def __eq__(self, _other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]
