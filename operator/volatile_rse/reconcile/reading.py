"""Objects of the cluster, read into facts."""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, TypeVar

from pydantic import ValidationError

from volatile_rse.api.agent import DAVS_PORT, ROOT_PORT
from volatile_rse.api.conditions import Reason
from volatile_rse.api.rserecord import RSERecordSpec, RSERecordStatus
from volatile_rse.api.rucioconnection import RucioConnectionSpec
from volatile_rse.api.schema import ApiModel, parse_quantity
from volatile_rse.api.volatilerse import OutputStatus, VolatileRSESpec
from volatile_rse.api.volatilerseclass import VolatileRSEClassSpec
from volatile_rse.builders.objects import CLAIM, DRAIN, FINALIZER, RECORD, record_name
from volatile_rse.builders.storage import NOT_AFTER, XROOTD
from volatile_rse.domain.facts import PodFact, Record, Request, ServiceFact, SessionFact, VolumeFact
from volatile_rse.domain.problems import Quarantined, Usage
from volatile_rse.domain.stage import session_state, when
from volatile_rse.ports.errors import RefusedError

__all__ = [
    "data_of",
    "expires_soon",
    "goes_along",
    "has_configuration",
    "is_closed",
    "is_of_claim",
    "is_outdated",
    "owner_of",
    "read_class",
    "read_connection",
    "read_outlived",
    "read_pod",
    "read_quarantined",
    "read_record",
    "read_request",
    "read_service",
    "read_session",
    "read_usage",
    "read_volume",
    "record_id_of",
    "secret_of",
    "texts_of",
    "tokens_of",
    "uid_of",
]

_OVERDUE = timedelta(minutes=2)
_RENEW = timedelta(days=30)
"""Before a certificate's end."""
_TOKEN = re.compile(r"[!-~]+")

Object = Mapping[str, Any]
_Model = TypeVar("_Model", bound=ApiModel)


def uid_of(body: Object) -> str:
    """Give an object's UID."""
    return str(body["metadata"]["uid"])


def data_of(body: Object) -> dict[str, str]:
    """Give a ConfigMap's texts."""
    return dict(body.get("data") or {})


def secret_of(body: Object) -> dict[str, str]:
    """Give a Secret's texts.

    Raises
    ------
    RefusedError
        CREDENTIAL_INVALID: a value is no text.
    """
    texts = texts_of(body)
    wrong = sorted(set(body.get("data") or {}) - set(texts))
    if wrong:
        metadata = body["metadata"]
        what = f"Secret {metadata.get('namespace')}/{metadata['name']}: {', '.join(wrong)} is no text in UTF-8."
        raise RefusedError(Reason.CREDENTIAL_INVALID, what)
    return texts


def texts_of(body: Object) -> dict[str, str]:
    """Give those values of a Secret that are texts: one that is none must not take the others along."""
    found = {}
    for key, value in (body.get("data") or {}).items():
        with contextlib.suppress(ValueError):
            found[key] = base64.b64decode(value).decode()
    return found


def tokens_of(body: Object) -> tuple[dict[str, str], tuple[str, ...]]:
    """Give the tokens of a Secret by host, and the hosts whose value is none: it cannot stand in a header."""
    found = {host: token for host, text in texts_of(body).items() if _TOKEN.fullmatch(token := text.strip())}
    return found, tuple(sorted(set(body.get("data") or {}) - set(found)))


def read_request(body: Object, namespace: Object | None) -> Request:
    """Read a VolatileRSE.

    Parameters
    ----------
    namespace
        The object of its namespace.
    """
    metadata = body["metadata"]
    spec, invalid = None, ""
    try:
        spec = VolatileRSESpec.model_validate(body["spec"])
    except ValidationError as error:
        invalid = _fault(error)
    return Request(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata.get("generation", 0),
        deleting="deletionTimestamp" in metadata,
        held=FINALIZER in metadata.get("finalizers", []),
        namespace_terminating=namespace is None or "deletionTimestamp" in namespace["metadata"],
        spec=spec,
        invalid=invalid,
        outputs=_told_outputs(body),
    )


def _told_outputs(body: Object) -> tuple[OutputStatus, ...]:
    try:
        return tuple(OutputStatus.model_validate(entry) for entry in (body.get("status") or {}).get("outputs") or ())
    except ValidationError:
        # Of another version of the operator: it is a help to people, and no truth.
        return ()


def read_record(body: Object) -> Record:
    """Read an RSERecord.

    Raises
    ------
    RefusedError
        RECORD_UNREADABLE: it is not as this operator writes it.
    """
    metadata = body["metadata"]
    try:
        status = RSERecordStatus.model_validate(body.get("status") or {})
        # Its words and times are read later on, where nobody expects that they are none.
        session_state(status.session)
        spec = RSERecordSpec.model_validate(body["spec"])
    except ValueError as error:
        what = f"RSERecord {metadata['name']} cannot be read: {_fault(error)}."
        raise RefusedError(Reason.RECORD_UNREADABLE, what) from error
    return Record(
        name=metadata["name"],
        uid=metadata["uid"],
        version=metadata["resourceVersion"],
        spec=spec,
        status=status,
        created=when(metadata.get("creationTimestamp")),
        held=FINALIZER in metadata.get("finalizers", []),
    )


def record_id_of(body: Object) -> str:
    """Tell whose record it is, also of one that cannot be read."""
    return str(body["spec"].get("recordId") or body["metadata"]["name"].removeprefix(record_name("")))


def owner_of(body: Object) -> tuple[str, str] | None:
    """Give namespace and name of a record's VolatileRSE, also of one that cannot be read."""
    claim: Object = next(iter(body["spec"].get("claims") or ()), {})
    namespace, name = claim.get("namespace"), claim.get("name")
    return (namespace, name) if namespace and name else None


def is_closed(body: Object) -> bool:
    """Tell whether nothing is left of a buffer but its record; of one that cannot be read there may be more."""
    return bool((body.get("status") or {}).get("closedAt"))


def read_class(body: Object) -> VolatileRSEClassSpec:
    """Read a VolatileRSEClass.

    Raises
    ------
    RefusedError
        CONFIGURATION_INVALID: it cannot be one.
    """
    return _read(VolatileRSEClassSpec, body)


def read_connection(body: Object) -> RucioConnectionSpec:
    """Read a RucioConnection.

    Raises
    ------
    RefusedError
        CONFIGURATION_INVALID: it cannot be one.
    """
    return _read(RucioConnectionSpec, body)


def _read(model: type[_Model], body: Object) -> _Model:
    try:
        return model.model_validate(body["spec"])
    except ValidationError as error:
        what = f"{body['kind']} {body['metadata']['name']} cannot be read: {_fault(error)}."
        raise RefusedError(Reason.CONFIGURATION_INVALID, what) from error


def _fault(error: ValueError) -> str:
    """Name the first field that is wrong."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    part = "status" if error.title == RSERecordStatus.__name__ else "spec"
    return f"{part}.{'.'.join(str(step) for step in first['loc'])}: {first['msg']}"


def read_quarantined(bodies: Iterable[Object], class_name: str) -> Quarantined:
    """Add up the records of a class whose outputs are in quarantine."""
    found = [
        body
        for body in bodies
        if body["spec"].get("className") == class_name and (status := body.get("status") or {}).get("quarantinedAt")
        if not status.get("safeAt")
    ]
    ends = [when((body["status"].get("session") or {}).get("endedAt")) for body in found]
    return Quarantined(
        bytes=sum(_at_risk(body) for body in found),
        oldest=min((end for end in ends if end is not None), default=None),
        records=tuple(sorted(body["metadata"]["name"] for body in found)),
    )


def read_usage(bodies: Iterable[Object], class_name: str, namespace: str) -> Usage:
    """Add up the records of a namespace and class that are not closed."""
    found = [
        body
        for body in bodies
        if body["spec"].get("className") == class_name
        and (owner := owner_of(body)) is not None
        and owner[0] == namespace
        and not is_closed(body)
    ]
    quarantined = [body for body in found if (body.get("status") or {}).get("quarantinedAt")]
    return Usage(
        buffers=len(found),
        bytes=sum(parse_quantity(body["spec"]["capacity"]) for body in found),
        quarantined=sum(_at_risk(body) for body in quarantined if not body["status"].get("safeAt")),
    )


def _at_risk(body: Object) -> int:
    """Give the bytes of a record in quarantine; what nobody can tell may be all that it has room for."""
    told = body["status"].get("bytesAtRisk")
    return parse_quantity(body["spec"]["capacity"]) if told is None else int(told)


def read_pod(body: Object) -> PodFact:
    """Read the storage pod."""
    status = body.get("status") or {}
    since = [
        entry.get("lastTransitionTime")
        for entry in status.get("conditions") or ()
        if entry["type"] == "Ready" and entry["status"] == "True"
    ]
    ready = bool(since)
    over = status.get("phase") in {"Succeeded", "Failed"} or "deletionTimestamp" in body["metadata"]
    return PodFact(
        uid=uid_of(body),
        ready=ready,
        over=over,
        running=status.get("phase") == "Running",
        address=status.get("podIP") or "",
        ready_since=when(since[0]) if since else None,
        message="" if ready else _why_not_ready(status),
    )


def read_volume(body: Object, volume: Object | None) -> VolumeFact:
    """Read the claim of the storage volume and the volume behind it."""
    if volume is None:
        return VolumeFact(uid=uid_of(body))
    retained = volume["spec"].get("persistentVolumeReclaimPolicy") == "Retain"
    marked = _label(volume, RECORD) is not None
    return VolumeFact(uid=uid_of(body), volume=volume["metadata"]["name"], retained=retained, marked=marked)


def read_outlived(claim: Object | None, volumes: Iterable[Object]) -> str | None:
    """Name the volume, of these of one record, that was kept and is bound to a claim that is no more."""
    for volume in volumes:
        kept = volume["spec"].get("persistentVolumeReclaimPolicy") == "Retain"
        holder = (volume["spec"].get("claimRef") or {}).get("uid")
        waits = claim is None or holder not in {None, uid_of(claim)}
        if kept and waits and _label(volume, RECORD) is not None and "deletionTimestamp" not in volume["metadata"]:
            return str(volume["metadata"]["name"])
    return None


def read_service(body: Object) -> ServiceFact:
    """Read the public Service."""
    ports = {entry["port"]: entry.get("nodePort") for entry in body["spec"]["ports"]}
    drained = DRAIN in (body["spec"].get("selector") or {})
    return ServiceFact(uid_of(body), ports.get(ROOT_PORT), ports.get(DAVS_PORT), drained)


def read_session(
    pods: Iterable[Object], objects: Iterable[Object | None], claim: str, ready_at: str | None, now: datetime
) -> SessionFact:
    """Read the session's pods, and the two objects that it is given.

    Parameters
    ----------
    claim
        UID of the VolatileRSE.
    ready_at
        When the session could begin: a pod that had finished before was another's.
    now
        A pod whose deletion is overdue by minutes runs on a dead node, if anywhere: nobody will say that it has ended.
    """
    pods = [pod for pod in pods if not _finished_before(pod, ready_at)]
    pods = [pod for pod in pods if not _is_lost(pod, now)]
    phases = [((pod.get("status") or {}).get("phase"), pod["spec"].get("nodeName")) for pod in pods]
    over = {"Succeeded", "Failed"}
    found = list(objects)
    ours = [body for body in found if body is not None and is_of_claim(body, claim)]
    others = [body for body in found if body is not None and not is_of_claim(body, claim)]
    foreign = f"{others[0]['kind']} {others[0]['metadata']['name']}" if others else ""
    return SessionFact(
        running=any(phase not in over and node for phase, node in phases),
        finished=any(phase in over for phase, _ in phases),
        objects=len(ours) == len(found) and not others,
        remains=any(not goes_along(body) for body in ours),
        foreign=foreign,
    )


def is_of_claim(body: Object, claim: str) -> bool:
    """Tell whether an object of a user's namespace was made for this VolatileRSE, by its UID."""
    return _label(body, CLAIM) == claim


def goes_along(body: Object) -> bool:
    """Tell whether Kubernetes removes it with the session's Secret: its garbage collector needs no telling."""
    return any(owner["kind"] == "Secret" for owner in body["metadata"].get("ownerReferences") or ())


def expires_soon(body: Object, now: datetime) -> bool:
    """Tell whether the certificate in a Secret is to be renewed."""
    end = when(_annotations(body).get(NOT_AFTER))
    return end is not None and now >= end - _RENEW


def is_outdated(body: Object, now: datetime) -> bool:
    """Tell whether a Secret of a buffer lacks what a storage pod needs, or soon will."""
    return expires_soon(body, now) or (NOT_AFTER in _annotations(body) and not has_configuration(body))


def has_configuration(body: Object) -> bool:
    """Tell whether XRootD's configuration is in the buffer's Secret: operators before 0.1 kept it elsewhere."""
    return any(key.startswith(XROOTD) for key in body.get("data") or {})


def _annotations(body: Object) -> Mapping[str, str]:
    return body["metadata"].get("annotations") or {}


def _is_lost(pod: Object, now: datetime) -> bool:
    # The deletion's time is the one at which its grace is over.
    deleted = when(pod["metadata"].get("deletionTimestamp"))
    return deleted is not None and now > deleted + _OVERDUE


def _finished_before(pod: Object, time: str | None) -> bool:
    states = [entry.get("state") or {} for entry in (pod.get("status") or {}).get("containerStatuses") or ()]
    ends = [state["terminated"].get("finishedAt") for state in states if "terminated" in state]
    known = [end for end in ends if end]
    # Times of Kubernetes have one form, in which their order is that of their letters.
    return time is not None and bool(known) and len(known) == len(states) and max(known) < time


def _label(body: Object, key: str) -> str | None:
    return (body["metadata"].get("labels") or {}).get(key)


def _why_not_ready(status: Object) -> str:
    for entry in status.get("containerStatuses") or ():
        state = entry.get("state") or {}
        for phase in ("waiting", "terminated"):
            if phase in state:
                return (
                    f"container {entry['name']}: {state[phase].get('reason')} {state[phase].get('message', '')}".strip()
                )
    for entry in status.get("conditions") or ():
        if entry["status"] != "True" and entry.get("message"):
            return str(entry["message"])
    return "starting"
