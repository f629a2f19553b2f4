"""Which namespaces a grant means, and whose a record is: a namespace that is made again under its name is another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from volatile_rse.api.schema import NAMESPACE_PATTERN, fault_of_label, fault_of_text
from volatile_rse.api.volatilerseclass import Grant, LabelRequirement, NamespaceSelector, Tenancy

__all__ = ["Namespace", "fault_of_grant", "faults_of_tenancy", "fits", "is_of", "lack_of"]

_ANY = "*"
_WITH_VALUES, _WITHOUT_VALUES = ("In", "NotIn"), ("Exists", "DoesNotExist")


@dataclass(frozen=True, slots=True)
class Namespace:
    """A namespace as it is now."""

    name: str
    uid: str
    labels: Mapping[str, str] = field(default_factory=dict)
    created: datetime | None = None


def fits(pattern: str, name: str) -> bool:
    """Tell whether a pattern means a whole name; each ``*`` in it stands for any characters, also for none.

    The work is bounded by the lengths of both: every part is looked for once.
    """
    first, *rest = pattern.split(_ANY)
    if not rest:
        return pattern == name
    *middle, last = rest
    if not (name.startswith(first) and name.endswith(last) and len(name) >= len(first) + len(last)):
        return False
    at, end = len(first), len(name) - len(last)
    for part in middle:
        found = name.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


def faults_of_tenancy(tenancy: Tenancy) -> tuple[str, ...]:
    """Say which grants hold for nobody, and why: the others hold all the same."""
    told = ((number, fault_of_grant(grant)) for number, grant in enumerate(tenancy.grants))
    return tuple(f"spec.tenancy.grants[{number}].{fault}" for number, fault in told if fault)


def fault_of_grant(grant: Grant) -> str:
    """Say why a grant can mean no namespace; empty: it can."""
    names = grant.namespaces
    if names is None and grant.namespace_selector is None:
        return "namespaces is missing, and so is namespaceSelector"
    if names is not None and (fault := _fault_of_names(names, has_uid=grant.uid is not None)):
        return fault
    if grant.uid is not None and names is None:
        return "uid is for one namespace that namespaces has by its exact name"
    return "" if grant.namespace_selector is None else _fault_of_selector(grant.namespace_selector)


def _fault_of_names(names: list[str], *, has_uid: bool) -> str:
    if not names:
        return "namespaces is empty"
    for number, name in enumerate(names):
        if fault_of_text(NAMESPACE_PATTERN, name):
            return f"namespaces[{number}]: {name!r} is neither the name of a namespace nor a pattern of names with '*'"
    if has_uid and (len(names) > 1 or _ANY in names[0]):
        return "uid is for one namespace that namespaces has by its exact name"
    return ""


def _fault_of_selector(selector: NamespaceSelector) -> str:
    """Judge a selector as Kubernetes does."""
    for key, value in selector.match_labels.items():
        if fault := fault_of_label(key, value):
            return f"namespaceSelector.matchLabels: {fault}"
    for number, requirement in enumerate(selector.match_expressions):
        if fault := _fault_of_requirement(requirement):
            return f"namespaceSelector.matchExpressions[{number}]: {fault}"
    return ""


def _fault_of_requirement(requirement: LabelRequirement) -> str:
    operator, values = requirement.operator, requirement.values
    if operator not in (*_WITH_VALUES, *_WITHOUT_VALUES):
        return f"operator {operator!r} is none of In, NotIn, Exists and DoesNotExist"
    if (operator in _WITH_VALUES) != bool(values):
        return f"operator {operator} needs values" if operator in _WITH_VALUES else f"operator {operator} has no values"
    return next((fault for value in values or ("",) if (fault := fault_of_label(requirement.key, value))), "")


def lack_of(grant: Grant, namespace: Namespace) -> str | None:
    """Say what a namespace lacks that a grant asks for beside its name; empty: nothing; None: it is not named.

    Both have to hold where a grant has names and a selector.
    """
    if grant.namespaces is not None and not any(fits(pattern, namespace.name) for pattern in grant.namespaces):
        return None
    if fault_of_grant(grant):
        # What is wrong of it may name others' namespaces, and is told with its class.
        return "is wrong, and holds for nobody: see the Events of the class"
    if grant.uid is not None and grant.uid != namespace.uid:
        return f"wants uid {grant.uid}, and this one has {namespace.uid}"
    selector = grant.namespace_selector
    return "" if selector is None else next(_lacks(selector, namespace.labels), "")


def _lacks(selector: NamespaceSelector, labels: Mapping[str, str]) -> Iterator[str]:
    for key, value in selector.match_labels.items():
        if labels.get(key) != value:
            yield f"wants label {key}={value}, and {_shown(key, labels)}"
    for requirement in selector.match_expressions:
        key, values, known = requirement.key, requirement.values, labels.get(requirement.key)
        match requirement.operator:
            case "In" if known not in values:
                yield f"wants label {key} with one of {', '.join(sorted(values))}, and {_shown(key, labels)}"
            case "NotIn" if known is not None and known in values:
                yield f"takes none with label {key}={known}"
            case "Exists" if known is None:
                yield f"wants label {key}, and {_shown(key, labels)}"
            case "DoesNotExist" if known is not None:
                yield f"takes none with label {key}, and {_shown(key, labels)}"
            case _:
                pass


def _shown(key: str, labels: Mapping[str, str]) -> str:
    return f"this one has {key}={labels[key]}" if key in labels else "this one has none such"


def is_of(namespace: Namespace, name: object, uid: object, created: datetime | None) -> bool:
    """Tell whether a record was made for a VolatileRSE of this very namespace.

    Parameters
    ----------
    name, uid
        Of the namespace, as the record tells; records of earlier versions tell no UID.
    created
        When the record was made: one that is older than the namespace was another's of its name.
    """
    if isinstance(uid, str) and uid:
        return uid == namespace.uid
    if name != namespace.name:
        return False
    return created is None or namespace.created is None or created >= namespace.created
