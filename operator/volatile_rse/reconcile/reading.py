"""Objects of the cluster, read into facts."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, TypeVar, cast

from pydantic import ValidationError

from volatile_rse.api.agent import DAVS_PORT, ROOT_PORT
from volatile_rse.api.conditions import Reason
from volatile_rse.api.rserecord import Claim, RSERecordSpec, RSERecordStatus
from volatile_rse.api.rucioconnection import RucioConnectionSpec
from volatile_rse.api.schema import LONGEST, ApiModel, parse_duration
from volatile_rse.api.text import WORDS, visible
from volatile_rse.api.volatilerse import Discard, EntryStatus, OutputStatus, Session, Teardown, VolatileRSESpec
from volatile_rse.api.volatilerseclass import Exposure, VolatileRSEClassSpec
from volatile_rse.builders.objects import AT_RISK, CLAIM, DRAIN, FINALIZER, NOT_AFTER, RECORD, record_name
from volatile_rse.domain.facts import PodFact, Record, Request, ServiceFact, SessionFact, VolumeFact
from volatile_rse.domain.naming import fault_of_stored
from volatile_rse.domain.stage import when
from volatile_rse.domain.tenants import Namespace
from volatile_rse.domain.times import earlier, is_time
from volatile_rse.ports.errors import RefusedError
from volatile_rse.reconcile.session_pods import has_come, is_over, of_session
from volatile_rse.reconcile.stored import read_stored
from volatile_rse.reconcile.truths import read_truths

__all__ = [
    "bytes_told",
    "claim_of",
    "created_of",
    "data_of",
    "expires_soon",
    "goes_along",
    "is_closed",
    "is_good",
    "is_of_claim",
    "owner_of",
    "read_class",
    "read_connection",
    "read_namespace",
    "read_outlived",
    "read_partly",
    "read_pod",
    "read_record",
    "read_request",
    "read_service",
    "read_session",
    "read_volume",
    "record_id_of",
    "secret_of",
    "spec_of",
    "status_of",
    "texts_of",
    "to_revoke",
    "uid_of",
]

_RENEW = timedelta(days=30)
"""Before a certificate's end."""

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
        spec = VolatileRSESpec.model_validate(body.get("spec"))
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
        tenant=None if namespace is None else read_namespace(namespace),
        invalid=invalid,
        outputs=_told_outputs(body),
        entries=_told_entries(body),
        end_requested=spec_of(body).get("endRequested") is True,
        discard=_discard_of(body) if spec is None else spec.teardown.discard,
        extend_until=_extend_until(body),
        previewed=isinstance(status_of(body).get("preview"), Mapping),
        ttl_after_finished=_ttl_after_finished(body),
    )


def read_namespace(body: Object) -> Namespace:
    """Read a Namespace; labels that are none, and a time that is none, are not there."""
    metadata = body["metadata"]
    labels = metadata.get("labels")
    found = labels if isinstance(labels, Mapping) else {}
    return Namespace(
        name=metadata["name"],
        uid=uid_of(body),
        labels={key: value for key, value in found.items() if isinstance(key, str) and isinstance(value, str)},
        created=created_of(body),
    )


def created_of(body: Object) -> datetime | None:
    """Tell when an object was made; None: it does not say so."""
    try:
        return when(body["metadata"].get("creationTimestamp"))
    except (TypeError, ValueError):
        return None


def spec_of(body: Object) -> Object:
    """Give what an object asks for, as it stands there; nothing if that is no object of JSON."""
    spec = body.get("spec")
    return spec if isinstance(spec, Mapping) else {}


def status_of(body: Object) -> Object:
    """Give what was said of an object; nothing if that is no object of JSON."""
    status = body.get("status")
    return status if isinstance(status, Mapping) else {}


def bytes_told(status: Object) -> int | None:
    """Add up what the status of a VolatileRSE tells to be at risk; None: it tells of no output."""
    told = status.get("outputs")
    if not isinstance(told, list) or not told:
        return None
    sizes = [output.get("bytesAtRisk") if isinstance(output, Mapping) else None for output in told]
    return sum(size for size in sizes if isinstance(size, int) and size > 0)


def _discard_of(body: Object) -> Discard | None:
    """Read the consent of an owner whose request cannot be read otherwise."""
    teardown = spec_of(body).get("teardown")
    try:
        return Discard.model_validate(teardown["discard"]) if isinstance(teardown, Mapping) else None
    except (LookupError, ValidationError):
        return None


def _extend_until(body: Object) -> datetime | None:
    """Read until when a session shall live; a time that is none asks for nothing."""
    session = spec_of(body).get("session")
    asked = session.get("extendUntil") if isinstance(session, Mapping) else None
    return when(asked) if is_time(asked) else None


def _ttl_after_finished(body: Object) -> timedelta | None:
    """Read when a VolatileRSE shall be deleted; what is no duration asks for nothing."""
    asked = spec_of(body).get("ttlAfterFinished")
    try:
        return parse_duration(asked) if isinstance(asked, str) else None
    except ValueError:
        return None


def _told_outputs(body: Object) -> tuple[OutputStatus, ...]:
    try:
        return tuple(OutputStatus.model_validate(entry) for entry in status_of(body).get("outputs") or ())
    except (ValidationError, TypeError):
        # Of another version of the operator: it is a help to people, and no truth.
        return ()


def _told_entries(body: Object) -> tuple[EntryStatus, ...]:
    try:
        return tuple(EntryStatus.model_validate(entry) for entry in status_of(body).get("entries") or ())
    except (ValidationError, TypeError):
        # As above.
        return ()


def read_record(body: Object, now: datetime) -> Record:
    """Read an RSERecord; of truths that cannot be read the safer reading counts.

    Raises
    ------
    RefusedError
        RECORD_UNREADABLE: it is not as this operator writes it.
    """
    metadata = body["metadata"]
    created = when(metadata.get("creationTimestamp"))
    status, unreadable = read_truths(body.get("status"), created, now)
    try:
        spec = read_stored(RSERecordSpec, spec_of(body))
    except ValueError as error:
        what = f"RSERecord {metadata['name']} cannot be read: {_fault(error)}."
        raise RefusedError(Reason.RECORD_UNREADABLE, what) from error
    if fault := _fault_of_class(spec.class_snapshot):
        what = f"RSERecord {metadata['name']} cannot be read: spec.classSnapshot.{visible(fault, WORDS)}."
        raise RefusedError(Reason.RECORD_UNREADABLE, what)
    if not spec.claims:
        what = f"RSERecord {metadata['name']} cannot be read: nobody can tell which VolatileRSE it was made for."
        raise RefusedError(Reason.RECORD_UNREADABLE, what)
    return Record(
        name=metadata["name"],
        uid=metadata["uid"],
        version=metadata["resourceVersion"],
        spec=_spec_without_removed(spec, status),
        status=_without_removed(status),
        created=created,
        held=FINALIZER in metadata.get("finalizers", []),
        unreadable=unreadable,
    )


def _fault_of_class(class_: VolatileRSEClassSpec) -> str | None:
    """Say what of a class that was stored leads nowhere: without its host and names nothing can be found or ended."""
    host = class_.exposure.public_host
    try:
        Exposure(public_host=host)
    except ValidationError:
        return f"exposure.publicHost {host!r} is no name of a host"
    return fault_of_stored(class_.naming)


def _spec_without_removed(spec: RSERecordSpec, status: RSERecordStatus) -> RSERecordSpec:
    """Leave out the inputs that were removed while the session lived: nobody asks for them any more."""
    if not status.removed:
        return spec
    claims = []
    for claim in spec.claims:
        left = [entry for entry in claim.request.inputs if entry.name not in status.removed]
        claims.append(claim.model_copy(update={"request": claim.request.model_copy(update={"inputs": left})}))
    return spec.model_copy(update={"claims": claims})


def _without_removed(status: RSERecordStatus) -> RSERecordStatus:
    if not status.removed or status.inputs is None:
        return status
    left = [entry for entry in status.inputs if entry.name not in status.removed]
    return status.model_copy(update={"inputs": left})


def read_partly(body: Object, now: datetime) -> Record | None:
    """Read of a record that cannot be read as a whole what the end of its session needs; None: that cannot be, either.

    Nothing else may be decided by it: what is missing is made up, or raises where it is asked for.
    """
    spec, metadata = spec_of(body), body.get("metadata") or {}
    owner, told, instance = owner_of(body), claim_of(body), spec.get("instance")
    if owner is None or not isinstance(instance, str):
        return None
    created = when(metadata.get("creationTimestamp"))
    status, unreadable = read_truths(body.get("status"), created, now)
    request = told.get("request")
    asked: Object = request if isinstance(request, Mapping) else {}
    endless = f"{LONGEST.days}d"
    nobody = Session(ttl=endless, start_timeout=endless)
    claim = _made(
        Claim,
        uid=str(told.get("uid")),
        namespace=owner[0],
        name=owner[1],
        request=_made(
            VolatileRSESpec,
            session=_stored(Session, asked.get("session"), nobody),
            teardown=_stored(Teardown, asked.get("teardown"), Teardown()),
        ),
    )
    return Record(
        name=metadata["name"],
        uid=metadata["uid"],
        version=metadata["resourceVersion"],
        spec=_made(
            RSERecordSpec,
            record_id=record_id_of(body),
            rse_name=str(spec.get("rseName")),
            instance=instance,
            ledger=str(spec.get("ledger")),
            claims=[claim],
        ),
        status=status,
        created=created,
        held=FINALIZER in metadata.get("finalizers", []),
        unreadable=unreadable,
        partial=True,
    )


def _made(model: type[_Model], **values: Any) -> _Model:  # noqa: ANN401 (of many types)
    """Make a part of which the rest is not there."""
    return cast("_Model", model.model_construct(**values))


def _stored(model: type[_Model], body: object, otherwise: _Model) -> _Model:
    try:
        return read_stored(model, body) if isinstance(body, Mapping) else otherwise
    except ValidationError:
        return otherwise


def record_id_of(body: Object) -> str:
    """Tell whose record it is, also of one that cannot be read."""
    told = spec_of(body).get("recordId")
    return told if isinstance(told, str) and told else str(body["metadata"]["name"]).removeprefix(record_name(""))


def owner_of(body: Object) -> tuple[str, str] | None:
    """Give namespace and name of a record's VolatileRSE, also of one that cannot be read."""
    claim = claim_of(body)
    namespace, name = claim.get("namespace"), claim.get("name")
    if isinstance(namespace, str) and isinstance(name, str) and namespace and name:
        return namespace, name
    return None


def claim_of(body: Object) -> Object:
    """Give the claim of a record, also of one that cannot be read; nothing if it has none."""
    claims = spec_of(body).get("claims")
    claim = claims[0] if isinstance(claims, list) and claims else None
    return claim if isinstance(claim, Mapping) else {}


def is_closed(body: Object) -> bool:
    """Tell whether nothing is left of a buffer but its record; of one that cannot be read there may be more."""
    return is_time(status_of(body).get("closedAt"))


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
        return model.model_validate(body.get("spec"))
    except ValidationError as error:
        what = f"{body['kind']} {body['metadata']['name']} cannot be read: {_fault(error)}."
        raise RefusedError(Reason.CONFIGURATION_INVALID, what) from error


def _fault(error: ValueError) -> str:
    """Name the first field that is wrong."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    return f"spec.{'.'.join(str(step) for step in first['loc'])}: {first['msg']}"


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
        held=_label(body, AT_RISK) == "true",
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
    pods: Iterable[Object],
    given: tuple[Object | None, Object | None],
    claim: str,
    ready_at: str | None,
    now: datetime,
) -> SessionFact:
    """Read the session's pods, and the two objects that it is given.

    Parameters
    ----------
    given
        The Secret and the ConfigMap of the session's name.
    claim
        UID of the VolatileRSE.
    ready_at
        When the session could begin: a pod that had finished before was another's.
    now
        A pod whose deletion is overdue by minutes runs on a dead node, if anywhere: nobody will say that it has ended.
    """
    ours = of_session(pods, ready_at, now)
    secret, config = given
    others = [body for body in given if body is not None and not is_of_claim(body, claim)]
    foreign = f"{others[0]['kind']} {others[0]['metadata']['name']}" if others else ""
    complete = secret is not None and config is not None and not others
    return SessionFact(
        running=any(pod["spec"].get("nodeName") and not is_over(pod) for pod in ours),
        finished=any(is_over(pod) and has_come(pod) for pod in ours),
        objects=complete and goes_along(config, secret),
        remains=bool(to_revoke(secret, config, claim)),
        foreign=foreign,
    )


def is_of_claim(body: Object, claim: str) -> bool:
    """Tell whether an object of a user's namespace was made for this VolatileRSE, by its UID."""
    return _label(body, CLAIM) == claim


def goes_along(config: Object | None, secret: Object | None) -> bool:
    """Tell whether Kubernetes removes the ConfigMap with this very Secret: its garbage collector needs no telling."""
    if config is None or secret is None:
        return False
    owners = config["metadata"].get("ownerReferences") or ()
    return [owner.get("uid") for owner in owners] == [uid_of(secret)]


def to_revoke(secret: Object | None, config: Object | None, claim: str) -> tuple[Object, ...]:
    """Give those objects of a session that are to be deleted at its end, and are not going already."""
    ours = [
        body
        for body in (secret, config)
        if body is not None and is_of_claim(body, claim) and "deletionTimestamp" not in body["metadata"]
    ]
    return tuple(body for body in ours if body is not config or secret not in ours or not goes_along(config, secret))


def expires_soon(body: Object, now: datetime) -> bool:
    """Tell whether the certificate in a Secret is to be renewed."""
    try:
        end = when(_annotations(body).get(NOT_AFTER))
    except (TypeError, ValueError):
        # Somebody has changed it: one that may have expired is renewed.
        return True
    return end is not None and now >= earlier(end, _RENEW)


def is_good(body: Object, authorities: str, now: datetime) -> bool:
    """Tell whether the certificate in a Secret is of these authorities (PEM), and lasts."""
    return texts_of(body).get("ca.crt") == authorities and not expires_soon(body, now)


def _annotations(body: Object) -> Mapping[str, str]:
    return body["metadata"].get("annotations") or {}


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
