"""What several manifests must say alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

MANIFESTS = Path(__file__).parents[2] / "manifests"


def read(name: str, kind: str) -> list[dict[str, Any]]:
    return [body for body in yaml.safe_load_all((MANIFESTS / name).read_text()) if body["kind"] == kind]


def test_the_policies_know_the_operator_by_its_service_account() -> None:
    (deployment,) = read("operator.yaml", "Deployment")
    account = deployment["spec"]["template"]["spec"]["serviceAccountName"]
    name = f"system:serviceaccount:{deployment['metadata']['namespace']}:{account}"
    conditions = [
        condition["expression"]
        for policy in read("admission.yaml", "ValidatingAdmissionPolicy")
        for condition in policy["spec"].get("matchConditions", [])
    ]
    assert conditions == [f"request.userInfo.username != '{name}'"] * 2


def test_each_policy_is_in_force() -> None:
    policies = {body["metadata"]["name"] for body in read("admission.yaml", "ValidatingAdmissionPolicy")}
    bindings = read("admission.yaml", "ValidatingAdmissionPolicyBinding")
    assert {body["spec"]["policyName"] for body in bindings} == policies
    assert all(body["spec"]["validationActions"] == ["Deny"] for body in bindings)


def test_the_operator_may_watch_its_own_lease_and_no_other() -> None:
    (role,) = (role for role in read("operator.yaml", "ClusterRole") if role["metadata"]["name"] == "volatile-rse")
    (leases,) = (rule for rule in role["rules"] if "leases" in rule["resources"])
    assert leases["resourceNames"] == ["volatile-rse"]
    assert set(leases["verbs"]) == {"list", "watch"}
