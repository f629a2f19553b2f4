"""CustomResourceDefinitions made from the models: ``python -m volatile_rse.api.crds DIRECTORY`` writes them."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic.config import JsonDict

from volatile_rse.api.rserecord import RSERecordSpec, RSERecordStatus
from volatile_rse.api.rucioconnection import RucioConnectionSpec, RucioConnectionStatus
from volatile_rse.api.schema import ApiModel, cel
from volatile_rse.api.volatilerse import LONGEST_NAME, SESSION_LABEL, VolatileRSESpec, VolatileRSEStatus
from volatile_rse.api.volatilerseclass import VolatileRSEClassSpec, VolatileRSEClassStatus

__all__ = ["GROUP", "KINDS", "VERSION", "Kind", "crd", "structural", "write"]

GROUP = "volatilerse.io"
VERSION = "v1alpha1"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of the group."""

    name: str
    plural: str
    short: str
    scope: Literal["Namespaced", "Cluster"]
    spec: type[ApiModel]
    status: type[ApiModel] | None
    columns: tuple[tuple[str, str, str, int], ...] = ()
    """Printer columns: title, type, JSON path, priority."""
    rules: tuple[JsonDict, ...] = ()
    """What the API server evaluates on the whole object."""


KINDS = (
    Kind(
        "VolatileRSE",
        "volatilerses",
        "vrse",
        "Namespaced",
        VolatileRSESpec,
        VolatileRSEStatus,
        (
            ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', 0),
            ("Phase", "string", ".status.phase", 0),
            ("RSE", "string", ".status.rse", 0),
            # kubectl shows a date as an age, and one to come as invalid.
            ("Expires", "string", ".status.expires", 0),
            ("Safe", "string", '.status.conditions[?(@.type=="OutputsSafe")].status', 1),
            ("Account", "string", ".spec.account", 1),
            ("Capacity", "string", ".spec.capacity", 1),
            ("Message", "string", '.status.conditions[?(@.type=="Ready")].message', 1),
        ),
        (
            cel(
                # What an earlier version took must stay changeable: the operator has to let it go.
                f"oldSelf.hasValue() || self.metadata.name.size() <= {LONGEST_NAME}",
                f"a name has at most {LONGEST_NAME} characters: its pods have it as the label {SESSION_LABEL}",
            )
            | {"optionalOldSelf": True},
            cel(
                "self.spec.inputs.all(input, oldSelf.spec.inputs.exists(old, old.name == input.name)"
                " || !has(oldSelf.status) || !has(oldSelf.status.entries) || !oldSelf.status.entries.exists(entry,"
                " entry.kind == 'Input' && entry.state == 'Removed' && entry.name == input.name))",
                "the name of an input that was removed is not used again: take another name",
            ),
        ),
    ),
    Kind(
        "VolatileRSEClass",
        "volatilerseclasses",
        "vrseclass",
        "Cluster",
        VolatileRSEClassSpec,
        VolatileRSEClassStatus,
        (
            ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', 0),
            ("Connection", "string", ".spec.connectionName", 0),
            ("Host", "string", ".spec.exposure.publicHost", 0),
            ("Message", "string", '.status.conditions[?(@.type=="Ready")].message', 1),
        ),
    ),
    Kind(
        "RucioConnection",
        "rucioconnections",
        "rucioconn",
        "Cluster",
        RucioConnectionSpec,
        RucioConnectionStatus,
        (("Server", "string", ".spec.server", 0), ("Reachable", "boolean", ".status.reachable", 0)),
    ),
    Kind(
        "RSERecord",
        "rserecords",
        "rser",
        "Cluster",
        RSERecordSpec,
        RSERecordStatus,
        (
            ("Phase", "string", ".status.phase", 0),
            ("RSE", "string", ".spec.rseName", 0),
            ("Namespace", "string", ".spec.claims[0].namespace", 0),
            ("Account", "string", ".spec.claims[0].account", 0),
            ("Safe", "date", ".status.safeAt", 0),
            # What is not safe in time waits for a person: it must meet the eye.
            ("Quarantined", "date", ".status.quarantinedAt", 0),
            ("At risk", "integer", ".status.bytesAtRisk", 0),
            ("Closed", "date", ".status.closedAt", 0),
            ("Message", "string", ".status.message", 1),
        ),
    ),
)


def structural(model: type[ApiModel]) -> dict[str, Any]:
    """Turn a model into a structural OpenAPI v3 schema: no references, no titles, absent instead of null."""
    schema = model.model_json_schema(by_alias=True)
    flat = _flatten(schema, schema.get("$defs", {}))
    if not isinstance(flat, dict):
        message = f"{model.__name__} has no object schema"
        raise TypeError(message)
    return flat


def _flatten(node: object, definitions: Mapping[str, Any]) -> Any:  # noqa: ANN401 - JSON
    if isinstance(node, list):
        return [_flatten(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        target = dict(definitions[str(node["$ref"]).removeprefix("#/$defs/")])
        return _flatten(target | {key: value for key, value in node.items() if key != "$ref"}, definitions)
    if "anyOf" in node:
        (present,) = [option for option in node["anyOf"] if option.get("type") != "null"]
        rest = {key: value for key, value in node.items() if key not in {"anyOf", "default"}}
        return _flatten(present | rest, definitions)
    fields = (_field(key, value, definitions) for key, value in node.items())
    return dict(field for field in fields if field is not None)


def _field(
    key: str,
    value: Any,  # noqa: ANN401 - JSON
    definitions: Mapping[str, Any],
) -> tuple[str, Any] | None:
    match key:
        case "properties" if not value:
            # Nothing that the API server drops: tools that compare what is kept would see a difference for ever.
            return None
        case "properties":
            return key, {name: _flatten(property_, definitions) for name, property_ in value.items()}
        case "const":
            return "enum", [value]
        case "default":
            return key, _without_null(value)
        case "enum" | "required":
            return key, value
        case "description":
            return key, " ".join(str(value).replace("``", "`").split())
        case "additionalProperties" if not isinstance(value, dict):
            return None
        case "title" | "$defs" | "propertyNames":
            return None
        case _ if key.startswith("x-"):
            return key, value
        case _:
            return key, _flatten(value, definitions)


def _without_null(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Leave out absent fields: the API server refuses null as the default of a string."""
    if isinstance(value, dict):
        return {key: _without_null(item) for key, item in value.items() if item is not None}
    return value


def crd(kind: Kind) -> dict[str, Any]:
    """Make the CustomResourceDefinition of a kind."""
    properties: dict[str, Any] = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
        "spec": structural(kind.spec),
    }
    version: dict[str, Any] = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": [
            {"name": title, "type": type_, "jsonPath": path} | ({"priority": priority} if priority else {})
            for title, type_, path, priority in kind.columns
        ]
        + [{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}],
    }
    if kind.status is not None:
        status = structural(kind.status)
        # kstatus takes an object without status for current: -1 says that nobody has looked yet.
        status["default"] = {"observedGeneration": -1}
        properties["status"] = status
        version["subresources"] = {"status": {}}
    rules = {"x-kubernetes-validations": list(kind.rules)} if kind.rules else {}
    version["schema"] = {
        "openAPIV3Schema": {
            "type": "object",
            "description": " ".join((kind.spec.__doc__ or "").split()),
            "required": ["spec"],
            "properties": properties,
            **rules,
        }
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        # Helm leaves kinds alone anyway. For Argo CD they are objects like others, and with them all records would go.
        "metadata": {"name": f"{kind.plural}.{GROUP}", "annotations": {"helm.sh/resource-policy": "keep"}},
        "spec": {
            "group": GROUP,
            "scope": kind.scope,
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.name.lower(),
                "shortNames": [kind.short],
                # Not the singular of a kind: `kubectl get volatilerse NAME` would then mean every kind.
                "categories": ["volatile-rse"],
            },
            "versions": [version],
        },
    }


def write(directory: Path) -> list[Path]:
    """Write one file per kind into a directory and give their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for kind in KINDS:
        path = directory / f"{GROUP}_{kind.plural}.json"
        path.write_text(json.dumps(crd(kind), indent=2, sort_keys=True) + "\n")
        paths.append(path)
    return paths


if __name__ == "__main__":
    for written in write(Path(sys.argv[1])):
        print(written)  # noqa: T201 - a command
