"""The Helm chart: its values, its kinds, and the manifests that are rendered from it."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pytest
import yaml

from testbed import rendering
from testbed.layout import CACHE
from volatile_rse.api.injection import TENANT

ROOT = Path(__file__).parents[2]
MANIFESTS, CHART = ROOT / "manifests", ROOT / "charts" / "volatile-rse"
TEMPLATES = sorted(path for path in (CHART / "templates").rglob("*") if path.is_file())
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
METADATA = yaml.safe_load((CHART / "Chart.yaml").read_text())
HELM = CACHE / "bin" / f"helm-{rendering.HELM[1]}"
ON_REQUEST = {"monitoring.yaml", "hubs.yaml", "checks.yaml", "NOTES.txt", "_helpers.tpl", "_injection.tpl", "tests"}
"""What is no object of an installation with the values as they are."""
BY_HAND = {"tenant.yaml", "hub.yaml"}
"""Manifests for one namespace."""


def bodies(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((MANIFESTS / name).read_text()))


def leaves(schema: Mapping[str, Any], path: str = "") -> Iterator[str]:
    for name in schema["required"]:
        child = schema["properties"][name]
        yield from leaves(child, f"{path}{name}.") if "required" in child else [f"{path}{name}"]


def used() -> set[str]:
    text = "\n".join(path.read_text() for path in TEMPLATES)
    found = set(re.findall(r"\.Values\.([\w.]+)", text))
    images = set(re.findall(r'"volatile-rse\.image" \(list \. "(\w+)"\)', text))
    return found | {f"{image}.{field}" for image in images for field in re.findall(r"\$image\.(\w+)", text)}


def test_every_value_is_described_has_a_default_and_is_used() -> None:
    assert used() == set(leaves(SCHEMA))
    for name in used():
        assert reduce(getitem, name.split("."), VALUES) is not None, f"{name} has no default"
    assert VALUES.keys() == set(SCHEMA["required"])


def test_who_has_installed_it_is_told_how_a_namespace_is_enabled() -> None:
    told = (CHART / "templates" / "NOTES.txt").read_text()
    (binding,) = bodies("tenant.yaml")
    assert f"kubectl create rolebinding {binding['metadata']['name']} -n NAMESPACE" in told
    assert f"--clusterrole={binding['roleRef']['name']} " in told
    # Without it no pod gets anything by a label.
    assert f"kubectl label namespace NAMESPACE {TENANT}=true" in told


def test_the_readme_tells_every_value() -> None:
    rows = [line for line in (CHART / "README.md").read_text().splitlines() if line.startswith("| `")]
    told = {name for row in rows for name in re.findall(r"`(\w+)[`.]", row.split("|")[1])}
    assert told == VALUES.keys()


def test_no_object_is_allowed_a_value_that_nobody_has_described() -> None:
    def closed(schema: Mapping[str, Any]) -> bool:
        mine = "required" not in schema or schema["additionalProperties"] is False
        return mine and all(closed(child) for child in schema.get("properties", {}).values())

    assert closed(SCHEMA)


def test_the_kinds_of_the_chart_are_those_of_the_models() -> None:
    assert (CHART / "templates" / "crds.yaml").read_text() == rendering.kinds_of_chart(), "run `make generate`"
    expected = {json.loads(path.read_text())["metadata"]["name"]: path for path in (ROOT / "crds").glob("*.json")}
    found = {body["metadata"]["name"]: body for body in bodies("crds.yaml")}
    assert found.keys() == expected.keys()
    for name, body in found.items():
        assert body["spec"] == json.loads(expected[name].read_text())["spec"]
        assert body["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


@pytest.mark.skipif(
    not HELM.exists(), reason="no Helm has been compiled on this machine; tests/e2e/test_helm.py has it"
)
def test_the_manifests_are_what_the_chart_renders() -> None:
    for name, text in rendering.rendered().items():
        assert (MANIFESTS / name).read_text() == text, f"{name}: run `make generate`"


@pytest.mark.skipif(not HELM.exists(), reason="as above")
def test_an_operator_knows_that_nobody_wants_injection() -> None:
    """Or every class would be told as failing."""
    found = rendering._objects(f"{rendering._VALUES},injection=none")
    assert "{name: VOLATILE_RSE_INJECTION, value: none}" in found["operator.yaml"]
    assert not [name for name in found if name.startswith("injection-")]


@pytest.mark.skipif(not HELM.exists(), reason="as above")
def test_the_webhook_is_as_the_values_say() -> None:
    said = "webhook.replicas=3,webhook.resources.limits.memory=1Gi,log.level=DEBUG,log.format=json"
    text = rendering._objects(f"{rendering._VALUES},injection=webhook,{said}")["injection-webhook.yaml"]
    (deployment,) = (body for body in yaml.safe_load_all(text) if body["kind"] == "Deployment")
    assert deployment["spec"]["replicas"] == 3
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["resources"] == {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "1Gi"}}
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert (environment["VOLATILE_RSE_LOG"], environment["VOLATILE_RSE_LOG_FORMAT"]) == ("DEBUG", "json")


RUNBOOKS = "https://docs.example.org/volatile-rse/alerts.html"


@pytest.mark.skipif(not HELM.exists(), reason="as above")
def test_the_alerts_lead_to_the_page_where_the_site_has_it() -> None:
    where = ["--kube-version", "1.34.0", "--show-only", "templates/monitoring.yaml"]
    argv = ["template", "volatile-rse", str(CHART), *where, "--set"]
    values = f"{rendering._VALUES},metrics.rules.enabled=true,metrics.rules.runbooks="
    text = subprocess.run([HELM, *argv, values + RUNBOOKS], capture_output=True, text=True, check=True).stdout
    rules = [rule for group in yaml.safe_load(text)["spec"]["groups"] for rule in group["rules"]]
    assert [rule["annotations"]["runbook_url"] for rule in rules] == [
        f"{RUNBOOKS}#{rule['alert'].lower()}" for rule in rules
    ]
    for wrong in ("docs.example.org/alerts", "https://docs.example.org/alerts.html#top", ""):
        done = subprocess.run([HELM, *argv, values + wrong], capture_output=True, text=True, check=False)
        assert "metrics.rules.runbooks" in done.stderr.replace("/", "."), wrong


def of_hubs(*hubs: tuple[str, str | None]) -> list[dict[str, Any]]:
    """Give what the chart makes for hubs in these namespaces, with these accounts."""
    said = [f"hubs[{at}].namespace={namespace}" for at, (namespace, _) in enumerate(hubs)]
    said += [f"hubs[{at}].serviceAccount={account}" for at, (_, account) in enumerate(hubs) if account]
    text = rendering._objects(",".join((rendering._VALUES, "injection=none", *said)))["hubs.yaml"]
    return list(yaml.safe_load_all(text))


@pytest.mark.skipif(not HELM.exists(), reason="as above")
def test_a_hub_gets_by_a_value_what_the_manifests_give_it() -> None:
    found = of_hubs(("jupyter", None), ("lab", "other"))
    for namespace, account in (("jupyter", "hub"), ("lab", "other")):
        made = [body for body in found if body["metadata"]["namespace"] == namespace]
        bound = {body["roleRef"]["name"]: body["subjects"] for body in made}
        assert bound == {
            "volatile-rse-hub": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
            "volatile-rse-sessions": [{"kind": "ServiceAccount", "name": "volatile-rse", "namespace": "volatile-rse"}],
        }
    given = {body["roleRef"]["name"] for name in BY_HAND for body in bodies(name)}
    assert given == {body["roleRef"]["name"] for body in found}
    roles = {body["metadata"]["name"] for body in bodies("operator.yaml") if body["kind"] == "ClusterRole"}
    assert given <= roles
    # A namespace that was enabled by hand is no obstacle to an upgrade.
    by_hand = {body["metadata"]["name"] for name in BY_HAND for body in bodies(name)}
    assert not {body["metadata"]["name"] for body in found} & by_hand


@pytest.mark.skipif(not HELM.exists(), reason="as above")
def test_hubs_of_one_namespace_have_a_binding_each_and_the_operator_one() -> None:
    """Not even for an account that is called as the operator's binding ends, or for a hub that is named twice."""
    accounts = (None, "sessions", "other", "other")
    found = of_hubs(*(("jupyter", account) for account in accounts))
    names = [body["metadata"]["name"] for body in found]
    assert len(set(names)) == len(names)
    bound = [(body["roleRef"]["name"], entry["name"]) for body in found for entry in body["subjects"]]
    hubs = [("volatile-rse-hub", account) for account in ("hub", "other", "sessions")]
    assert sorted(bound) == [*hubs, ("volatile-rse-sessions", "volatile-rse")]


def test_every_template_is_a_manifest_and_the_other_way_round() -> None:
    templates = {path.relative_to(CHART / "templates").parts[0] for path in TEMPLATES} - ON_REQUEST
    assert templates == {path.name for path in MANIFESTS.glob("*.yaml")} - BY_HAND - {"kustomization.yaml"}


def test_the_base_of_kustomize_has_all_that_is_installed() -> None:
    base = yaml.safe_load((MANIFESTS / "kustomization.yaml").read_text())
    others = BY_HAND | {"kustomization.yaml", "uninstall-job.yaml"}
    installed = {path.name for path in MANIFESTS.glob("*.yaml") if not path.name.startswith("injection-")}
    assert set(base["resources"]) == installed - others


def test_nothing_in_a_template_is_bound_to_one_namespace_or_name() -> None:
    for path in TEMPLATES:
        text = re.sub(r"\{\{.*?\}\}", "", path.read_text())
        for said in ("namespace: volatile-rse", "volatile-rse-buffers", "serviceaccount:volatile-rse", ":latest"):
            assert said not in text, path.name


def test_what_must_outlive_the_release_is_kept() -> None:
    """The release's own namespace is none of its objects."""
    text = (CHART / "templates" / "operator.yaml").read_text()
    (namespace,) = (part for part in text.split("\n---\n") if "kind: Namespace" in part)
    assert ".Values.buffersNamespace" in namespace
    assert "annotations: {helm.sh/resource-policy: keep}" in namespace
    (budget,) = (part for part in text.split("\n---\n") if "kind: PodDisruptionBudget" in part)
    assert "annotations: {helm.sh/resource-policy: keep}" in budget


def test_manifests_have_no_word_of_a_release() -> None:
    for path in MANIFESTS.glob("*.yaml"):
        for body in bodies(path.name):
            labels = body.get("metadata", {}).get("labels", {})
            assert not labels.keys() & {"app.kubernetes.io/managed-by", "app.kubernetes.io/version", "helm.sh/chart"}


def test_the_chart_has_the_version_of_the_operator() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert METADATA["appVersion"] == version
    assert METADATA["version"] == version.replace(".dev", "-dev")


def test_what_artifact_hub_is_told_of_kinds_is_so() -> None:
    told = yaml.safe_load(METADATA["annotations"]["artifacthub.io/crds"])
    known = {body["metadata"]["name"]: body["spec"] for body in bodies("crds.yaml")}
    assert {entry["name"] for entry in told} == known.keys()
    for entry in told:
        spec = known[entry["name"]]
        assert entry["kind"] == spec["names"]["kind"]
        assert entry["version"] in {version["name"] for version in spec["versions"]}
    (example,) = yaml.safe_load(METADATA["annotations"]["artifacthub.io/crdsExamples"])
    assert example["kind"] == "VolatileRSE"


EVERY = {
    "image": {"repository": "registry.example.org:5000/operator", "digest": f"sha256:{'a' * 64}", "tag": "ignored"},
    "bufferImage": {"repository": "registry.example.org:5000/buffer", "tag": "1"},
    "sidecarImage": {"repository": "registry.example.org/sidecar:2"},
    "injection": "webhook",
    "imagePullSecrets": [{"name": "pull"}],
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "infra", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
    "priorityClassName": "system",
    "podAnnotations": {"site": "here"},
    "podLabels": {"team": "grid"},
    "commonLabels": {"cost": "7"},
    "serviceAccount": {"name": "other", "annotations": {"role": "x"}},
    "resources": {"requests": {"cpu": "1"}},
    "metrics": {
        "podMonitor": {"enabled": True, "interval": "7s", "labels": {"release": "prometheus"}},
        "rules": {"enabled": True, "labels": {"release": "rules"}},
        "dashboard": {"enabled": True, "labels": {"grafana": "yes"}},
    },
}
"""Values of a site that changes all that it can about where and as what the operator runs."""


@pytest.fixture(scope="module", name="site")
def _site(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Give the objects of such a site by kind and name, with what Helm keeps for hooks."""
    values = tmp_path_factory.mktemp("site") / "values.yaml"
    values.write_text(yaml.safe_dump(EVERY))
    argv = [str(HELM), "template", "mine", str(CHART), "-n", "ops", "--kube-version", "1.34.0", "-f", str(values)]
    text = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    return {f"{body['kind']}/{body['metadata']['name']}": body for body in yaml.safe_load_all(text) if body}


@pytest.mark.skipif(not HELM.exists(), reason="as above")
def test_pods_of_the_release_are_where_and_as_what_the_values_say(site: dict[str, dict[str, Any]]) -> None:
    for name in ("volatile-rse", "volatile-rse-webhook"):
        pod = site[f"Deployment/{name}"]["spec"]["template"]["spec"]
        for key in ("imagePullSecrets", "nodeSelector", "tolerations", "affinity", "priorityClassName"):
            assert pod[key] == EVERY[key], (name, key)
    template = site["Deployment/volatile-rse"]["spec"]["template"]
    assert template["metadata"]["annotations"].items() >= {"site": "here"}.items()
    assert template["metadata"]["labels"].items() >= {"team": "grid", "cost": "7"}.items()
    assert template["spec"]["serviceAccountName"] == "other"
    (container,) = template["spec"]["containers"]
    assert container["resources"] == {"requests": {"cpu": "1", "memory": "128Mi"}}
    assert container["image"] == f"registry.example.org:5000/operator@sha256:{'a' * 64}"
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert environment["VOLATILE_RSE_BUFFER_IMAGE"] == "registry.example.org:5000/buffer:1"
    webhook = {entry["name"]: entry.get("value") for entry in _environment(site["Deployment/volatile-rse-webhook"])}
    assert webhook["VOLATILE_RSE_SIDECAR_IMAGE"] == "registry.example.org/sidecar:2"
    assert site["ServiceAccount/other"]["metadata"]["annotations"] == {"role": "x"}


@pytest.mark.skipif(not HELM.exists(), reason="as above")
def test_every_object_of_the_release_has_the_labels_of_the_site(site: dict[str, dict[str, Any]]) -> None:
    lacking = [
        name
        for name, body in site.items()
        if body["metadata"].get("labels", {}).get("cost") != "7" and not name.startswith("CustomResourceDefinition/")
    ]
    assert not lacking


@pytest.mark.skipif(not HELM.exists(), reason="as above")
def test_prometheus_and_grafana_find_what_they_look_for(site: dict[str, dict[str, Any]]) -> None:
    monitor, rule = site["PodMonitor/volatile-rse"], site["PrometheusRule/volatile-rse"]
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    template = site["Deployment/volatile-rse"]["spec"]["template"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    assert endpoint["interval"] == "7s"
    assert endpoint["port"] in {port["name"] for port in template["spec"]["containers"][0]["ports"]}
    assert rule["metadata"]["labels"]["release"] == "rules"
    assert rule["spec"]["groups"]
    board = site["ConfigMap/volatile-rse-dashboard"]
    assert board["metadata"]["labels"]["grafana"] == "yes"
    assert json.loads(board["data"]["volatile-rse.json"])["panels"]


def _environment(deployment: Mapping[str, Any]) -> list[dict[str, Any]]:
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return list(container["env"])
