from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from volatile_rse.api.conditions import REMEDIES, Reason
from volatile_rse.api.crds import KINDS, Kind, crd, write

ROOT = Path(__file__).resolve().parents[3]


def test_committed_crds_are_what_the_models_say(tmp_path: Path) -> None:
    written = {path.name: path.read_text() for path in write(tmp_path)}
    committed = {path.name: path.read_text() for path in (ROOT / "crds").glob("*.json")}
    assert committed == written, "run `make generate`"


def walk(node: Any, path: str = "") -> list[tuple[str, dict[str, Any]]]:
    found = [(path, node)]
    for name, child in node.get("properties", {}).items():
        found += walk(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in node:
            found += walk(node[key], f"{path}.{key}")
    return found


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_string_and_list_is_bounded_and_every_node_typed(kind: Kind) -> None:
    schema = crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for part in ("spec", "status"):
        for path, node in walk(schema["properties"].get(part, {"type": "object"}), part):
            assert "type" in node, path
            if node["type"] == "array":
                assert "maxItems" in node, path
            if node["type"] == "string":
                assert {"maxLength", "enum", "format"} & node.keys(), path
            if "additionalProperties" in node:
                assert "maxProperties" in node, path


WORDS = {
    "additionalProperties", "default", "description", "enum", "format", "items", "maxItems", "maxLength",
    "maxProperties", "maximum", "minItems", "minLength", "minProperties", "minimum", "pattern", "properties",
    "required", "type",
}  # fmt: skip
"""Of schemas, as Kubernetes knows them: it takes no kind with another one."""


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_schemas_say_nothing_that_kubernetes_does_not_know(kind: Kind) -> None:
    schema = crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for path, node in walk(schema):
        unknown = {word for word in node.keys() - WORDS if not word.startswith("x-kubernetes-")}
        assert not unknown, path


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_number_that_people_write_is_bounded(kind: Kind) -> None:
    schema = crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for path, node in walk(schema["properties"]["spec"], "spec"):
        if node["type"] == "integer":
            assert {"minimum", "maximum"} <= node.keys(), path


def test_nobody_has_looked_yet_is_visible_to_kstatus() -> None:
    vrse = crd(KINDS[0])
    status = vrse["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
    assert status["default"] == {"observedGeneration": -1}


def test_schemas_hold_no_reference() -> None:
    assert "$ref" not in json.dumps([crd(kind) for kind in KINDS])


def test_remedies_are_only_for_reasons_that_exist_and_say_what_to_do() -> None:
    for reason, remedy in REMEDIES.items():
        assert reason in Reason
        assert remedy.action.endswith(".")


def test_only_what_is_past_is_shown_as_an_age() -> None:
    columns = [
        (kind.name, title) for kind in KINDS for title, type_, _path, _priority in kind.columns if type_ == "date"
    ]
    assert columns == [("RSERecord", "Safe"), ("RSERecord", "Quarantined"), ("RSERecord", "Closed")]


def test_what_waits_for_a_person_meets_the_eye() -> None:
    (record,) = [kind for kind in KINDS if kind.name == "RSERecord"]
    shown = {title: path for title, _type, path, priority in record.columns if priority == 0}
    assert shown["Quarantined"] == ".status.quarantinedAt"
    assert shown["At risk"] == ".status.bytesAtRisk"


def test_a_name_is_judged_where_it_is_made_alone() -> None:
    schema = crd(KINDS[0])["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    (rule,) = [rule for rule in schema["x-kubernetes-validations"] if "metadata.name" in rule["rule"]]
    # Without this the operator could not let go of what has a longer name and is stored.
    assert rule["optionalOldSelf"] is True
    assert rule["rule"] == "oldSelf.hasValue() || self.metadata.name.size() <= 63"
