"""What is wrong with a request: the reason, the object, and who must act."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import get_args

from volatile_rse.api.conditions import REMEDIES, Reason
from volatile_rse.api.patterns import fault_of_pattern, leaves_outbox
from volatile_rse.api.schema import Durability, fault_of_label, parse_duration, parse_quantity
from volatile_rse.api.volatilerse import SESSION_LABEL, Output, VolatileRSESpec
from volatile_rse.api.volatilerseclass import Grant, Quarantine, Tenancy, VolatileRSEClassSpec
from volatile_rse.domain.catalogue import DatasetState
from volatile_rse.domain.naming import faults_of_naming, faults_of_output
from volatile_rse.domain.rights import grants_of, may_read, may_write, missed
from volatile_rse.domain.tenants import Namespace
from volatile_rse.domain.times import later

__all__ = [
    "Problem",
    "Quarantined",
    "problem_of_dataset",
    "problem_of_name",
    "problem_of_quarantine",
    "problems_of_inputs",
    "problems_of_request",
    "problems_of_spec",
    "refused_grant",
]


_SHOWN = 5
"""Records that a message names."""
_DURABILITIES = get_args(Durability)
"""In their order."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that keeps a request from being served."""

    reason: Reason
    what: str
    """What happened, and to which object."""

    @property
    def message(self) -> str:
        """What happened, who must act, and what to do."""
        remedy = REMEDIES.get(self.reason)
        return self.what if remedy is None else f"{self.what} {remedy.actor} must act: {remedy.action}"


def problems_of_request(
    namespace: Namespace, spec: VolatileRSESpec, class_: VolatileRSEClassSpec | None, *, connection_exists: bool
) -> tuple[Problem, ...]:
    """Judge a request by itself and by its class, before anything is made for it.

    Parameters
    ----------
    namespace
        Of the VolatileRSE; grants are given to namespaces.
    class_
        The class that it names, or None where there is none.
    connection_exists
        Whether the RucioConnection that the class names exists.
    """
    if class_ is None:
        return (Problem(Reason.UNKNOWN_CLASS, f"VolatileRSEClass {spec.class_name!r} does not exist."),)
    problems = [] if connection_exists else [_unknown_connection(class_)]
    problems += _tenancy(namespace, spec, class_.tenancy)
    problems += problems_of_spec(spec)
    problems += [
        Problem(Reason.NAMING_INVALID, f"VolatileRSEClass {spec.class_name!r}: {wrong}")
        for wrong in faults_of_naming(class_.naming)
    ]
    problems += [
        Problem(Reason.NAME_REFUSED, f"spec.outputs[{output.name}].{wrong}")
        for output in spec.outputs
        for wrong in faults_of_output(class_.naming, output.scope, output.dataset)
    ]
    if _DURABILITIES.index(class_.outlives()) < _DURABILITIES.index(spec.minimum_durability):
        problems.append(
            Problem(
                Reason.DURABILITY_TOO_LOW,
                f"spec.minimumDurability is {spec.minimum_durability}, and the storage of class {spec.class_name!r} "
                f"outlives its {class_.outlives()} only.",
            )
        )
    if class_.max_capacity is not None and parse_quantity(spec.capacity) > parse_quantity(class_.max_capacity):
        problems.append(
            Problem(
                Reason.CAPACITY_OVER_LIMIT,
                f"spec.capacity {spec.capacity} is more than the {class_.max_capacity} that class "
                f"{spec.class_name!r} allows.",
            )
        )
    if parse_duration(spec.session.ttl) > parse_duration(class_.max_ttl):
        problems.append(
            Problem(
                Reason.TTL_OVER_LIMIT,
                f"spec.session.ttl {spec.session.ttl} is more than the maxTtl {class_.max_ttl} of class "
                f"{spec.class_name!r}.",
            )
        )
    return tuple(problems)


def problems_of_spec(spec: VolatileRSESpec) -> tuple[Problem, ...]:
    """Judge a request by itself alone."""
    return (*(problem for output in spec.outputs if (problem := _path(output))), *_destinations(spec))


def problem_of_name(name: str) -> Problem | None:
    """Refuse the name of a VolatileRSE that no pod can have as the value of its label."""
    fault = fault_of_label(SESSION_LABEL, name)
    if not fault:
        return None
    what = (
        f"metadata.name: {fault}. So no pod can have the label {SESSION_LABEL} of this session, and a name cannot be "
        "changed: create another VolatileRSE."
    )
    return Problem(Reason.INVALID_SPEC, what)


def problems_of_inputs(spec: VolatileRSESpec, sizes: dict[str, int], total: int) -> tuple[Problem, ...]:
    """Judge resolved inputs against the capacity, before a byte moves.

    Parameters
    ----------
    sizes
        Input name -> bytes.
    total
        Bytes of all of them; less than their sum where inputs share files.
    """
    capacity = parse_quantity(spec.capacity)
    if total <= capacity:
        return ()
    parts = ", ".join(f"{name}: {size}" for name, size in sorted(sizes.items()))
    return (
        Problem(
            Reason.INPUTS_TOO_LARGE,
            f"The inputs have {total} bytes ({parts}) and spec.capacity is {spec.capacity} ({capacity} bytes).",
        ),
    )


@dataclass(frozen=True, slots=True)
class Quarantined:
    """The buffers of a class whose outputs are not safe in time."""

    bytes: int = 0
    oldest: datetime | None = None
    """End of the session that has waited longest."""
    records: tuple[str, ...] = ()


def problem_of_quarantine(class_name: str, limits: Quarantine, found: Quarantined, now: datetime) -> Problem | None:
    """Refuse new sessions of a class whose quarantine is over its limits."""
    over = []
    if limits.max_bytes is not None and found.bytes > parse_quantity(limits.max_bytes):
        over.append(f"{found.bytes} bytes, more than {limits.max_bytes}")
    if (
        limits.max_age is not None
        and found.oldest is not None
        and now > later(found.oldest, parse_duration(limits.max_age))
    ):
        over.append(f"outputs older than {limits.max_age}")
    if not over:
        return None
    records = ", ".join(found.records[:_SHOWN])
    what = f"Class {class_name!r} has {' and '.join(over)} in quarantine ({records}) and takes no new sessions."
    return Problem(Reason.QUARANTINE_FULL, what)


def problem_of_dataset(output: Output, account: str, record_id: str, known: DatasetState | None) -> Problem | None:
    """Judge what stands under the name of an output's dataset: before anything is staged for it, and before a copy.

    The operator's own account could write into anybody's dataset: that it does not is decided here.
    """
    if known is None:
        return None
    named = f"spec.outputs[{output.name}]: {output.scope}:{output.dataset}"
    if not known.is_dataset:
        what = "is no dataset."
    elif not known.open:
        what = "is closed."
    elif known.account != account:
        what = f"belongs to account {known.account!r}, not to {account!r}."
    elif output.if_exists == "Fail" and known.maker != record_id:
        what = "exists, and ifExists is Fail."
    else:
        return None
    return Problem(Reason.DATASET_REFUSED, f"{named} {what}")


def _unknown_connection(class_: VolatileRSEClassSpec) -> Problem:
    return Problem(Reason.UNKNOWN_CONNECTION, f"RucioConnection {class_.connection_name!r} does not exist.")


def _destinations(spec: VolatileRSESpec) -> list[Problem]:
    """Find outputs of one dataset that go to different places: a rule is of a whole dataset, not of some files."""
    first: dict[tuple[str, str], Output] = {}
    problems = []
    for output in spec.outputs:
        other = first.setdefault((output.scope, output.dataset), output)
        if _held(output) != _held(other):
            what = (
                f"spec.outputs[{output.name}].destination and spec.outputs[{other.name}].destination differ, and both "
                f"outputs go to {output.scope}:{output.dataset}: Rucio holds a dataset as a whole. Give them one "
                "destination with one lifetime, or two datasets."
            )
            problems.append(Problem(Reason.INVALID_SPEC, what))
    return problems


def _held(output: Output) -> tuple[str, int, timedelta | None]:
    destination = output.destination
    lifetime = None if destination.lifetime is None else parse_duration(destination.lifetime)
    return destination.rse_expression, destination.copies, lifetime


def _tenancy(namespace: Namespace, spec: VolatileRSESpec, tenancy: Tenancy) -> list[Problem]:
    user = spec.on_behalf_of
    grants = grants_of(tenancy, namespace, spec.account, user)
    class_, whom = f"Class {spec.class_name!r}", f"to namespace {namespace.name!r}"
    whom += "" if user is None else f" on behalf of {user!r}"
    if not grants:
        what = f"{class_} does not grant account {spec.account!r} {whom}"
        return [refused_grant(Reason.ACCOUNT_NOT_GRANTED, what, missed(tenancy, namespace, spec.account, user=user))]
    read = {input_.did.split(":")[0] for input_ in spec.inputs}
    written = {output.scope for output in spec.outputs}
    refused = {scope: may_read for scope in sorted(read) if not may_read(grants, scope)}
    refused |= {scope: may_write for scope in sorted(written) if not may_write(grants, scope)}
    return [
        refused_grant(
            Reason.SCOPE_NOT_GRANTED,
            f"{class_} does not grant scope {scope!r} {whom} with account {spec.account!r} "
            f"{'to read' if may is may_read else 'to write'}",
            missed(tenancy, namespace, spec.account, partial(_covers, scope, may), user),
        )
        for scope, may in refused.items()
    ]


def _covers(scope: str, may: Callable[[Collection[Grant], str], bool], grant: Grant) -> bool:
    return may((grant,), scope)


def refused_grant(reason: Reason, what: str, missed_: str) -> Problem:
    """Make a problem of what is not granted; of a namespace that lacks what a grant wants, it is an admin's.

    Parameters
    ----------
    what
        A sentence without its full stop.
    missed_
        The grants that were missed, as ``missed`` names them.
    """
    return Problem(Reason.NAMESPACE_NOT_GRANTED, f"{what}: {missed_}.") if missed_ else Problem(reason, f"{what}.")


def _path(output: Output) -> Problem | None:
    named = f"spec.outputs[{output.name}].path {output.path!r}"
    if leaves_outbox(output.path):
        return Problem(Reason.PATH_ESCAPES_OUTBOX, f"{named} leaves the session's outbox.")
    if fault := fault_of_pattern(output.path):
        return Problem(Reason.PATH_INVALID, f"{named} {fault}.")
    return None
