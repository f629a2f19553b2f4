"""The page for admins leaves out nothing that the operator says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from volatile_rse.api.conditions import REMEDIES, Actor, ConditionType, Reason
from volatile_rse.api.volatilerseclass import Site, Tenancy
from volatile_rse.domain.rights import grants_of
from volatile_rse.domain.status import STALLING
from volatile_rse.domain.tenants import Namespace, faults_of_tenancy
from volatile_rse.telemetry.metrics import Metrics

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "operations.md").read_text()
ACTED_UPON = sorted(STALLING | {reason for reason, remedy in REMEDIES.items() if remedy.actor is not Actor.NOBODY})


def metrics() -> dict[str, set[str]]:
    """Give the names under which each metric is read, by what they are counted from."""
    ours = [family for family in Metrics().registry.collect() if family.name.startswith("volatile_rse_")]
    ends = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}
    return {family.name: {f"{family.name}{end}" for end in ends[family.type]} for family in ours}


def section(title: str) -> str:
    """Give what stands under a title."""
    return PAGE.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]


@pytest.mark.parametrize("type_", ConditionType)
def test_every_condition_is_told(type_: ConditionType) -> None:
    assert f"`{type_.value}`" in section("By the condition").split("\n### ", 1)[0]


@pytest.mark.parametrize("reason", ACTED_UPON)
def test_every_reason_that_somebody_must_act_upon_is_told(reason: Reason) -> None:
    assert f"`{reason.value}`" in PAGE


@pytest.mark.parametrize("name", metrics())
def test_every_metric_is_told(name: str) -> None:
    rows = [line for line in section("Metrics").splitlines() if line.startswith("| `")]
    told = {found for row in rows for found in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert {name.removeprefix("volatile_rse_"), f"{name.removeprefix('volatile_rse_')}_total"} & told


def test_no_metric_is_told_that_there_is_not() -> None:
    rows = [line.split("|")[1] for line in section("Metrics").splitlines() if line.startswith("| `")]
    told = {found.removesuffix("_total") for row in rows for found in re.findall(r"`(\w+)`", row)}
    known = {name.removeprefix("volatile_rse_") for name in metrics()}
    assert told - known == {"process_resident_memory_bytes"}


def test_every_link_within_the_page_leads_somewhere() -> None:
    titles = re.findall(r"^#+ (.+)$", PAGE, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) <= anchors


def test_every_section_is_found_by_a_task() -> None:
    tasks = PAGE.split("\n## ", 1)[0]
    titles = re.findall(r"^##+ (.+)$", PAGE, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
    assert anchors - set(re.findall(r"\]\(#([^)]+)\)", tasks)) == {"the-testbed"}


def test_the_grant_of_a_hub_means_what_the_page_says() -> None:
    (example,) = re.findall(r"```yaml\n(tenancy:\n.*?)```", PAGE, re.DOTALL)
    tenancy = Tenancy.model_validate(yaml.safe_load(example)["tenancy"])
    label = {"hub.example.org/managed": "true"}
    assert not faults_of_tenancy(tenancy)
    means = {
        (name, bool(labels)): bool(grants_of(tenancy, Namespace(name, "u", labels), "hub"))
        for name in ("jupyter-alice", "jupyter", "my-jupyter-alice")
        for labels in (label, {})
    }
    assert [case for case, granted in means.items() if granted] == [("jupyter-alice", True)]


def test_the_site_that_redirects_to_plain_http_is_one_of_a_class() -> None:
    (example,) = re.findall(r"```yaml\n(sites:\n.*?)```", PAGE, re.DOTALL)
    (site,) = yaml.safe_load(example)["sites"]
    assert Site.model_validate(site).plain_redirects
