"""What `vrse doctor` looks at: cluster, operator, connections, classes, and the way to the buffers from here."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Literal

from pydantic import ValidationError

from volatile_rse.api.agent import DAVS_PORT
from volatile_rse.api.conditions import Actor, ClassCondition, conditions_by_type
from volatile_rse.api.crds import GROUP, KINDS, VERSION, Kind, crd
from volatile_rse.api.injection import TENANT
from volatile_rse.api.volatilerse import SESSION_LABEL
from volatile_rse.api.volatilerseclass import VolatileRSEClassSpec
from volatile_rse.cli.operators import Operator, operators_among
from volatile_rse.cli.reach import Reached
from volatile_rse.cli.server import Object, Server, Unreadable
from volatile_rse.domain.naming import drain_name
from volatile_rse.domain.settings import AUTHORITY
from volatile_rse.domain.tenants import Namespace, lack_of
from volatile_rse.domain.times import is_time, stamp, when

__all__ = ["Check", "Reach", "examined"]

State = Literal["ok", "wrong", "unknown"]
Reach = Callable[[str, int, str], Reached]

_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_GROUP = f"/apis/{GROUP}/{VERSION}"
_ROLE = "volatile-rse-sessions"
_SKEW = timedelta(seconds=60)
"""By which clocks may differ: an answer takes its time, and is dated to the second."""
_SHOWN = 3
_SOON = timedelta(days=7)
"""Before the end of a certificate that should have been renewed a month before."""


@dataclass(frozen=True, slots=True)
class Check:
    """What was found of one thing."""

    what: str
    """That was looked at."""
    state: State
    said: str
    """What was found, and where something is wrong who must act, and what to do."""

    def dump(self) -> dict[str, str]:
        """Give it as an object."""
        return {"what": self.what, "state": self.state, "message": self.said}


@dataclass(frozen=True, slots=True)
class _Here:
    """Where this command runs."""

    server: Server
    now: datetime
    reach: Reach


def examined(server: Server, namespace: str, now: datetime, reach: Reach) -> Iterator[Check]:
    """Look at one thing after the other; what this user may not read is unknown.

    Parameters
    ----------
    namespace
        Of the operator.
    """
    yield from _cluster(server, now)
    for kind in KINDS:
        yield _kind(server, kind)
    operator = yield from _operator(server, namespace)
    connections = _listed(server, "rucioconnections", "RucioConnections")
    yield from _each(connections, "connections", _connection)
    classes = _listed(server, "volatilerseclasses", "VolatileRSEClasses")
    yield from _each(classes, "classes", _class)
    bodies = [] if isinstance(classes, Unreadable) else classes
    if operator is not None and bodies:
        yield from _exposures(_Here(server, now, reach), operator, bodies)
    yield from _namespace(server, bodies)


def _wrong(what: str, said: str, actor: Actor, action: str) -> Check:
    return Check(what, "wrong", f"{said} {actor.value} must act: {action}")


def _unread(what: str, found: Unreadable) -> Check:
    return Check(what, "unknown", f"You may not read {found.what}.")


def _cluster(server: Server, now: datetime) -> Iterator[Check]:
    found = server.look("/version", "the version of the API server")
    version = str(found.get("gitVersion")) if isinstance(found, Mapping) else "of an unknown version"
    yield Check("API server", "ok", f"It answers, and is Kubernetes {version}.")
    try:
        date = parsedate_to_datetime(server.date)
    except ValueError:
        yield Check("clock", "unknown", "The API server does not tell its time.")
        return
    ahead = now - (date if date.tzinfo is not None else date.replace(tzinfo=UTC))
    if abs(ahead) <= _SKEW:
        yield Check("clock", "ok", "That of this machine and the API server's agree within a minute.")
        return
    side = "ahead of" if ahead > timedelta() else "behind"
    said = f"This machine's clock is {abs(ahead).total_seconds():.0f} s {side}"
    action = "set this clock (NTP), or the nodes': tokens and certificates count by them."
    yield _wrong("clock", f"{said} the API server's.", Actor.ADMIN, action)


def _kind(server: Server, kind: Kind) -> Check:
    name = f"{kind.plural}.{GROUP}"
    found = server.look(f"{_CRDS}/{name}", f"CustomResourceDefinition {name}")
    what = f"kind {kind.name}"
    if isinstance(found, Unreadable):
        return _unread(what, found)
    apply = "apply this version's kinds (`kubectl apply --server-side -f crds/`)."
    if found is None:
        return _wrong(what, "The cluster does not have it.", Actor.ADMIN, apply)
    here, there = _fields(crd(kind)), _fields(found)
    if missing := sorted(here - there):
        shown = ", ".join(missing[:_SHOWN]) + (f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else "")
        return _wrong(what, f"The cluster has an older one, without {shown}.", Actor.ADMIN, apply)
    if there - here:
        return Check(what, "ok", "The cluster has a newer one than this command knows.")
    return Check(what, "ok", f"{GROUP}/{VERSION}, of this version.")


def _fields(definition: Object) -> frozenset[str]:
    """Name all fields of a kind."""
    versions = (definition.get("spec") or {}).get("versions") or ()
    schema = next(
        ((entry.get("schema") or {}).get("openAPIV3Schema") for entry in versions if entry.get("name") == VERSION), None
    )
    return frozenset(_below(schema or {}, ""))


def _below(node: Mapping[str, Any], path: str) -> Iterator[str]:
    for name, child in (node.get("properties") or {}).items():
        yield f"{path}{name}"
        yield from _below(child, f"{path}{name}.")
    if isinstance(items := node.get("items"), Mapping):
        yield from _below(items, path)


def _operator(server: Server, namespace: str) -> Generator[Check, None, Operator | None]:
    what = f"operator in {namespace}"
    found = server.look(f"/apis/apps/v1/namespaces/{namespace}/deployments", f"Deployments of namespace {namespace}")
    if isinstance(found, Unreadable):
        yield _unread(what, found)
        return None
    if not (operators := operators_among(_items(found), namespace)):
        action = "install it (docs/install.md), or name its namespace by --operator-namespace."
        yield _wrong(what, "There is none.", Actor.ADMIN, action)
        return None
    operator = operators[0]
    name = operator.deployment
    if not operator.ready:
        action = f"see `kubectl -n {namespace} describe pods` and `kubectl -n {namespace} logs deployment/{name}`."
        yield _wrong(what, f"Deployment {name} has no pod that is ready.", Actor.ADMIN, action)
    else:
        yield Check(what, "ok", f"Deployment {name} has a pod that is ready.")
    yield _lease(server, operator)
    return operator


def _lease(server: Server, operator: Operator) -> Check:
    what = f"Lease {operator.namespace}/{operator.name}"
    found = server.look(f"/apis/coordination.k8s.io/v1/namespaces/{operator.namespace}/leases/{operator.name}", what)
    if isinstance(found, Unreadable):
        return _unread(what, found)
    spec = {} if found is None else found.get("spec") or {}
    renewed, date = str(spec.get("renewTime", "")), _date(server)
    if not spec.get("holderIdentity") or not is_time(renewed) or date is None:
        action = f"see `kubectl -n {operator.namespace} logs deployment/{operator.name}`."
        return _wrong(what, "No operator holds it, so that none works.", Actor.ADMIN, action)
    age = date - (when(renewed) or date)
    if age > timedelta(seconds=int(spec.get("leaseDurationSeconds") or 0)) + _SKEW:
        said = f"{spec['holderIdentity']} has not renewed it for {age.total_seconds():.0f} s: it does not work."
        action = f"see `kubectl -n {operator.namespace} get pods`, and the log of its last one."
        return _wrong(what, said, Actor.ADMIN, action)
    return Check(what, "ok", f"{spec['holderIdentity']} holds it.")


def _date(server: Server) -> datetime | None:
    try:
        return parsedate_to_datetime(server.date)
    except ValueError:
        return None


def _listed(server: Server, plural: str, what: str) -> list[Object] | Unreadable:
    found = server.look(f"{_GROUP}/{plural}", what)
    return found if isinstance(found, Unreadable) else _items(found)


def _items(found: Object | None) -> list[Object]:
    return [body for body in (found or {}).get("items") or () if isinstance(body, Mapping)]


def _each(found: list[Object] | Unreadable, what: str, judge: Callable[[Object], Iterator[Check]]) -> Iterator[Check]:
    if isinstance(found, Unreadable):
        yield _unread(what, found)
    elif not found:
        action = "create one (docs/operations.md)."
        yield _wrong(what, "There is none: no buffer can be asked for.", Actor.ADMIN, action)
    else:
        for body in found:
            yield from judge(body)


def _is_old(body: Object) -> bool:
    """Tell whether a status speaks of an earlier spec, or of none."""
    return bool((body.get("status") or {}).get("observedGeneration") != body["metadata"].get("generation"))


def _connection(body: Object) -> Iterator[Check]:
    what, found = (
        f"RucioConnection {body['metadata']['name']}",
        conditions_by_type(body.get("status")).get("Reachable", {}),
    )
    if _is_old(body):
        yield Check(what, "unknown", "The operator has not tried it yet as it is now.")
    elif found.get("status") == "True":
        yield Check(what, "ok", str(found.get("message")))
    else:
        action = "see that message; `vrse explain` tells what a reason means (docs/operations.md)."
        yield _wrong(what, f"{found.get('reason')}: {found.get('message')}", Actor.ADMIN, action)


def _class(body: Object) -> Iterator[Check]:
    """Tell each condition: the messages of those that fail say who must act, and how."""
    name, found = body["metadata"]["name"], conditions_by_type(body.get("status"))
    if _is_old(body):
        yield Check(f"class {name}", "unknown", "The operator has not tried it yet as it is now.")
        return
    for type_ in ClassCondition:
        condition = found.get(type_.value)
        if condition is None or type_ is ClassCondition.READY:
            continue
        status: State = {"True": "ok", "False": "wrong"}.get(str(condition.get("status")), "unknown")  # type: ignore[assignment]
        said = str(condition.get("message"))
        yield Check(
            f"class {name}: {type_.value}", status, said if status != "wrong" else f"{condition.get('reason')}: {said}"
        )


def _exposures(here: _Here, operator: Operator, classes: list[Object]) -> Iterator[Check]:
    path = f"/api/v1/namespaces/{operator.namespace}/configmaps/{AUTHORITY}"
    found = here.server.look(path, f"ConfigMap {operator.namespace}/{AUTHORITY}")
    if isinstance(found, Unreadable):
        yield _unread("public hosts", found)
        return
    authority = str(((found or {}).get("data") or {}).get("ca.crt", ""))
    hosts = {str(((body.get("spec") or {}).get("exposure") or {}).get("publicHost", "")) for body in classes} - {""}
    for host in sorted(hosts):
        yield _exposure(here, operator, host, authority)


def _exposure(here: _Here, operator: Operator, host: str, authority: str) -> Check:
    what, name = f"public host {host}, from here", drain_name(host)
    found = here.server.look(
        f"/api/v1/namespaces/{operator.buffers}/services/{name}", f"Service {operator.buffers}/{name}"
    )
    if isinstance(found, Unreadable):
        return _unread(what, found)
    ports = ((found or {}).get("spec") or {}).get("ports") or ()
    port = next((entry.get("nodePort") for entry in ports if entry.get("port") == DAVS_PORT), None)
    if not isinstance(port, int):
        return Check(what, "unknown", "The operator has not made the empty server of this host yet.")
    reached = here.reach(host, port, authority)
    if reached.why_not:
        action = (
            "if Rucio's daemons are where you are, see that the name leads to a node and that the range of NodePorts "
            f"is open (`nc -vz {host} {port}`)."
        )
        return _wrong(what, f"https://{host}:{port} cannot be used: {reached.why_not}.", Actor.ADMIN, action)
    end = None if reached.until is None else datetime.fromtimestamp(reached.until, UTC)
    if end is not None and end - here.now < _SOON:
        action = f"see `kubectl -n {operator.namespace} logs deployment/{operator.name}`: it renews it a month before."
        return _wrong(what, f"Its certificate ends at {stamp(end)}.", Actor.ADMIN, action)
    until = "" if end is None else f", whose certificate is good until {stamp(end)}"
    return Check(what, "ok", f"https://{host}:{port} leads to the operator's server{until}.")


def _namespace(server: Server, classes: list[Object]) -> Iterator[Check]:
    """Tell what the namespace of the context may use."""
    name = server.namespace
    what = f"namespace {name}"
    found = server.look(f"/api/v1/namespaces/{name}", f"Namespace {name}")
    bound = server.look(f"/apis/rbac.authorization.k8s.io/v1/namespaces/{name}/rolebindings", f"RoleBindings of {name}")
    if isinstance(bound, Unreadable):
        yield _unread(what, bound)
    elif not any((body.get("roleRef") or {}).get("name") == _ROLE for body in _items(bound)):
        action = f"`kubectl apply -n {name} -f manifests/tenant.yaml`."
        yield _wrong(what, "It is not enabled for buffers.", Actor.ADMIN, action)
    else:
        yield Check(what, "ok", f"It is enabled for buffers.{_without_injection(name, found)}")
    if not classes or not isinstance(found, Mapping):
        return
    metadata = found["metadata"]
    about = Namespace(name, str(metadata.get("uid", "")), dict(metadata.get("labels") or {}))
    granted = {
        body["metadata"]["name"]: accounts for body in classes if (accounts := _accounts(body, about)) is not None
    }
    if given := "; ".join(f"{class_}: {', '.join(accounts)}" for class_, accounts in granted.items() if accounts):
        yield Check(f"grants of {name}", "ok", f"Classes, and Rucio accounts by them: {given}.")
    else:
        action = f"add a grant for {name} to the class's spec.tenancy.grants (docs/operations.md)."
        yield _wrong(f"grants of {name}", "No class grants it any account.", Actor.ADMIN, action)


def _without_injection(name: str, found: Object | Unreadable | None) -> str:
    """Say that pods get nothing by their label, where a namespace lacks its own: one that mounts by hand needs none."""
    labels = (found["metadata"].get("labels") or {}) if isinstance(found, Mapping) else None
    if labels is None or labels.get(TENANT) == "true":
        return ""
    return (
        f" Its pods get nothing by the label {SESSION_LABEL} alone: `kubectl label namespace {name} {TENANT}=true`, if "
        "they are to."
    )


def _accounts(body: Object, namespace: Namespace) -> list[str] | None:
    """List the accounts that a class grants to a namespace; None: the class cannot be read."""
    try:
        class_ = VolatileRSEClassSpec.model_validate(body.get("spec"))
    except ValidationError:
        return None
    grants = [grant for grant in class_.tenancy.grants if lack_of(grant, namespace) == ""]
    return sorted({account for grant in grants for account in grant.accounts})
