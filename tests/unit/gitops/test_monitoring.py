"""Alerts, their pages and the dashboard ask for what the operator tells."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from volatile_rse.telemetry.metrics import Metrics

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "charts" / "volatile-rse"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())["groups"] for rule in group["rules"]
]
PAGE = (ROOT / "docs" / "alerts.md").read_text()
DASHBOARD = json.loads((CHART / "files" / "dashboard.json").read_text())
ENDS = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}
FAMILIES = [family for family in Metrics().registry.collect() if family.name.startswith("volatile_rse_")]
KNOWN = {f"{family.name}{end}" for family in FAMILIES for end in ENDS[family.type]}


def labels_of(metric: str) -> set[str]:
    """Give the labels of a metric, as it was made."""
    collectors = Metrics().registry._names_to_collectors
    found = collectors.get(metric) or collectors[re.sub(r"_(bucket|count|sum|total)$", "", metric)]
    return {*found._labelnames, *({"le"} if metric.endswith("_bucket") else ())}  # type: ignore[attr-defined]


def asked(expression: str) -> list[tuple[str, set[str]]]:
    """Find the metrics that an expression names, each with the labels that it selects by."""
    found = re.findall(r"(volatile_rse_\w+)(?:\{([^}]*)\})?", expression)
    return [(name, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", by))) for name, by in found]


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_a_unit_is_the_last_word_of_a_name(name: str) -> None:
    base = re.sub(r"_(bucket|count|sum|total)$", "", name.removeprefix("volatile_rse_"))
    assert not re.search(r"(bytes|seconds)_", base)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_asks_for_what_there_is_and_leads_to_what_to_do(rule: dict[str, Any]) -> None:
    found = asked(rule["expr"])
    assert found
    labels = set().union(*(labels_of(name) for name, _ in found))
    for name, by in found:
        assert name in KNOWN
        assert by <= labels_of(name)
    grouped = set().union(*(re.split(r",\s*", by) for by in re.findall(r"by \(([^)]*)\)", rule["expr"])))
    assert grouped <= labels
    told = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    assert told <= (grouped or labels)
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert (ROOT / page).read_text() == PAGE
    section = PAGE.split(f"\n## {rule['alert']}\n", 1)[1]
    assert anchor == rule["alert"].lower()
    assert section.lower().startswith(f"{rule['labels']['severity']}. ")


def test_the_page_has_no_alert_that_there_is_not() -> None:
    assert re.findall(r"^## (.*)$", PAGE, re.MULTILINE) == [rule["alert"] for rule in RULES]
    assert {rule["labels"]["severity"] for rule in RULES} == {"critical", "warning"}


@pytest.mark.parametrize("page", ["alerts.md", "gitops.md"])
def test_the_page_leads_to_what_there_is(page: str) -> None:
    folder = ROOT / "docs"
    for path, anchor in re.findall(r"\]\(([^)#:]+)(?:#([^)]*))?\)", (folder / page).read_text()):
        assert (folder / path).exists(), path
        if anchor:
            titles = re.findall(r"^#+ (.+)$", (folder / path).read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}, anchor


@pytest.mark.parametrize("panel", DASHBOARD["panels"], ids=lambda panel: panel["title"])
def test_a_panel_asks_for_what_there_is(panel: dict[str, Any]) -> None:
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert panel["targets"]
    for target in panel["targets"]:
        found = asked(target["expr"])
        assert found
        for name, by in found:
            assert name in KNOWN, name
            assert by <= labels_of(name), target["expr"]
        shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        assert shown <= set().union(*(labels_of(name) for name, _ in found))
        # What is shown survives the aggregation.
        for by in re.findall(r"by \(([^)]*)\)", target["expr"]):
            assert shown <= set(re.split(r",\s*", by))


def test_the_dashboard_is_one_that_grafana_takes() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps([panels, DASHBOARD["templating"]])))
    assert used - {"__all"} == variables


def test_service_and_monitor_find_the_port_of_the_operator() -> None:
    (deployment,) = (
        body
        for body in yaml.safe_load_all((ROOT / "manifests" / "operator.yaml").read_text())
        if body["kind"] == "Deployment"
    )
    pod = deployment["spec"]["template"]
    (port,) = (port for port in pod["spec"]["containers"][0]["ports"] if port["name"] == "metrics")
    service = yaml.safe_load((ROOT / "manifests" / "metrics.yaml").read_text())
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert [(entry["targetPort"], entry["port"]) for entry in service["spec"]["ports"]] == [
        ("metrics", port["containerPort"])
    ]
    monitor = (CHART / "templates" / "monitoring.yaml").read_text()
    assert "matchLabels: {app.kubernetes.io/name: volatile-rse}" in monitor
    assert "{port: metrics, " in monitor
