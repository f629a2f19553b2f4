"""What would come of a request, told without anything being made: by what judges every request before it begins."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

from volatile_rse.api.addresses import place_of
from volatile_rse.api.conditions import Reason
from volatile_rse.api.rserecord import RSERecordStatus
from volatile_rse.api.text import WORDS, visible
from volatile_rse.api.volatilerse import Input, Preview, PreviewInput, PreviewOutput, PreviewSource, VolatileRSESpec
from volatile_rse.builders.objects import record_name
from volatile_rse.domain.catalogue import File
from volatile_rse.domain.estimate import Sample, seconds_of
from volatile_rse.domain.facts import Facts, Record, Request
from volatile_rse.domain.frozen import distinct, usable
from volatile_rse.domain.planning import problems_of_admission, record_of
from volatile_rse.domain.problems import Problem
from volatile_rse.domain.serving import preparing as prepare
from volatile_rse.domain.times import is_time, when
from volatile_rse.reconcile.connections import Connections
from volatile_rse.reconcile.gather import preparing, resolving
from volatile_rse.reconcile.gather.look import Look
from volatile_rse.reconcile.reading import created_of, spec_of, status_of
from volatile_rse.reconcile.world import World

__all__ = ["previewed"]

_PASSING = frozenset(
    {
        Reason.ANSWER_UNUSABLE,
        Reason.CATALOGUE_IMPLAUSIBLE,
        Reason.CATALOGUE_UNREACHABLE,
        Reason.CLUSTER_UNREACHABLE,
        Reason.OPERATOR_FAULT,
        Reason.OUT_OF_TIME,
    }
)
"""What is no answer: it is looked again."""
_SOURCES, _REFUSED = 16, 64
"""That are told."""


def previewed(world: World, connections: Connections, facts: Facts, request: Request, spec: VolatileRSESpec) -> Facts:
    """Say what would come of a dry run, once all that has to be known for it was told."""
    tenant = facts.tenant
    if tenant is None or facts.problems:
        return facts
    wrong = problems_of_admission(request, spec, tenant, facts)
    if wrong or facts.class_ is None or facts.connection is None:
        return dataclasses.replace(facts, preview=_preview(wrong))
    record = _record(world, request, spec, facts)
    look = Look(world, connections, facts, record)
    preparing.ask(look)
    known = dataclasses.replace(look.facts, problems=tuple(look.problems))
    # As a request that is taken up; nothing of this plan is carried out.
    problems = tuple(dict.fromkeys((*known.problems, *prepare(known, record).problems)))
    told = dataclasses.replace(facts, problems=problems)
    if any(problem.reason in _PASSING for problem in problems):
        return told
    inputs = [_input(look, entry, files) for entry in spec.inputs if (files := look.resolved.get(entry.name))]
    chosen = {} if problems or known.chosen is None else known.chosen
    outputs = [
        PreviewOutput(name=name, rses=list(rses), quota_low=known.tight.get(name)) for name, rses in chosen.items()
    ]
    samples = _samples(world, spec.class_name)
    size = sum(file.bytes for file in distinct({name: files or () for name, files in look.resolved.items()}))
    preview = _preview(
        problems, inputs=inputs, outputs=outputs, ready_seconds=seconds_of(samples, size), like=len(samples)
    )
    return dataclasses.replace(told, preview=preview)


def _preview(problems: Collection[Problem], **told: Any) -> Preview:  # noqa: ANN401 (fields of the model)
    return Preview(refused=[problem.message for problem in list(problems)[:_REFUSED]], **told)


def _record(world: World, request: Request, spec: VolatileRSESpec, facts: Facts) -> Record:
    """Give the record that would be made; nobody writes it."""
    made = record_of(request, spec, facts, world.settings.instance)
    return Record(record_name(made.record_id), "", "", made, RSERecordStatus(), created=facts.now)


def _input(look: Look, entry: Input, files: tuple[File, ...]) -> PreviewInput:
    wanted = usable(files)
    found = look.ask(resolving.sources, look, look.catalogue(), entry, wanted) if wanted else {}
    nearest = Counter(
        place.host for pfns in (found or {}).values() if pfns and (place := place_of(pfns[0])) is not None
    )
    return PreviewInput(
        name=entry.name,
        files=len(files),
        bytes=sum(file.bytes for file in wanted),
        unusable=len(files) - len(wanted),
        sources=[
            PreviewSource(host=visible(host, WORDS), files=number) for host, number in nearest.most_common(_SOURCES)
        ],
    )


def _samples(world: World, class_name: str) -> list[Sample]:
    found = world.cluster.select("RSERecord", _sample)
    return [sample for sample in found if sample is not None and sample.class_name == class_name]


def _sample(body: Mapping[str, Any]) -> Sample | None:
    """Read of a record how long it took; None: it was never usable, or cannot be read."""
    status, created = status_of(body), created_of(body)
    session, inputs = status.get("session"), status.get("inputs")
    ready = session.get("readyAt") if isinstance(session, Mapping) else None
    if created is None or not is_time(ready):
        return None
    sizes = (
        [entry.get("bytes") for entry in inputs or () if isinstance(entry, Mapping)] if isinstance(inputs, list) else []
    )
    seconds = ((when(ready) or created) - created).total_seconds()
    size = sum(size for size in sizes if isinstance(size, int) and size > 0)
    return Sample(spec_of(body).get("className"), max(seconds, 0.0), size)
