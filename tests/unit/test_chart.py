"""The Helm chart says what the manifests say, but for its values."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pytest
import yaml

from volatile_rse.api.chart import TEMPLATES, template, write

ROOT = Path(__file__).parents[2]
MANIFESTS, CHART = ROOT / "manifests", ROOT / "charts" / "volatile-rse"
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
IMAGES = {f"{name}Image": f"volatile-rse/{name}:latest" for name in ("operator", "buffer", "sidecar")}
VALUE = re.compile(r"\.Values\.([\w.]+)")


def text_of(name: str) -> str:
    return (CHART / "templates" / name).read_text()


def rendered(name: str, namespace: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Do what Helm does with the few things that the templates have of its language."""

    def value(action: re.Match[str]) -> str:
        if found := VALUE.search(action[0]):
            given = values[found[1]]
            if "toJson" in action[0]:
                return json.dumps(given)
            return json.dumps(str(given)) if "quote" in action[0] else str(given)
        return json.dumps(namespace) if "quote" in action[0] else namespace

    text = re.sub(r"\{\{- /\*.*?\*/ -\}\}", "", text_of(name))
    text = re.sub(r"^\{\{- (if|end)\b.*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"\{\{ if .*?\}\}.*?(?:\{\{ else \}\}(.*?))?\{\{ end \}\}", r"\1", text)
    return list(yaml.safe_load_all(re.sub(r"\{\{.*?\}\}", value, text)))


def test_committed_templates_are_what_the_manifests_say(tmp_path: Path) -> None:
    for path in write(MANIFESTS, tmp_path):
        assert text_of(path.name) == path.read_text(), "run `make generate`"


@pytest.mark.parametrize("name", TEMPLATES)
def test_with_its_defaults_the_chart_installs_what_the_manifests_install(name: str) -> None:
    bodies = list(yaml.safe_load_all((MANIFESTS / name).read_text()))
    expected = [body for body in bodies if (body["kind"], body["metadata"]["name"]) != ("Namespace", "volatile-rse")]
    assert rendered(name, "volatile-rse", VALUES | IMAGES) == expected


@pytest.mark.parametrize("name", TEMPLATES)
def test_nothing_stays_where_the_manifests_have_it(name: str) -> None:
    others = {
        "sidecarImage": "s",
        "operatorImage": "o",
        "bufferImage": "b",
        "name": "n",
        "buffersNamespace": "bs",
        "nodePorts": 2,
        "resources": {},
    }
    found = json.dumps(rendered(name, "elsewhere", others))
    assert "elsewhere" in found or name == "injection-policy.yaml"  # Of the whole cluster.
    for said in ('"namespace": "volatile-rse', "volatile-rse-buffers", "serviceaccount:volatile-rse", "volatile-rse/"):
        assert said not in found


def test_what_must_outlive_the_release_is_kept() -> None:
    """The release's own namespace and the kinds are none of its objects."""
    bodies = rendered("operator.yaml", "volatile-rse", VALUES | IMAGES)
    assert "CustomResourceDefinition" not in {body["kind"] for body in bodies}
    (namespace,) = (body for body in bodies if body["kind"] == "Namespace")
    assert namespace["metadata"]["name"] == VALUES["buffersNamespace"]
    assert namespace["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def leaves(schema: Mapping[str, Any], path: str = "") -> Iterator[str]:
    for name, child in schema["properties"].items():
        if name in schema.get("required", ()):
            nested = "required" in child
            yield from leaves(child, f"{path}{name}.") if nested else [f"{path}{name}"]


def test_values_are_used_and_described() -> None:
    used = {name for path in (CHART / "templates").iterdir() for name in VALUE.findall(path.read_text())}
    assert used == set(leaves(json.loads((CHART / "values.schema.json").read_text())))
    for name in used:
        assert reduce(getitem, name.split("."), VALUES) is not None, f"{name} has no default"
    assert {name.split(".")[0] for name in used} == set(VALUES)


def test_a_manifest_that_lost_what_a_value_replaces_is_noticed() -> None:
    with pytest.raises(ValueError, match="has nothing like"):
        template("uninstall-job.yaml", "kind: Job\n")


def test_the_chart_has_the_version_of_the_operator() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == version
    assert chart["version"] == version.replace(".dev", "-dev")
