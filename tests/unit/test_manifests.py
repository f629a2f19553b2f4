"""What several manifests must say alike."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from volatile_rse.api.injection import INJECTION, TENANT
from volatile_rse.api.volatilerse import SESSION_LABEL
from volatile_rse.reconcile.admission import SERVICE

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
        if "userInfo" in condition["expression"]
    ]
    named = [condition for condition in conditions if "username" in condition]
    assert named == [f"request.userInfo.username {sign} '{name}'" for sign in ("!=", "!=", "==", "==", "==", "==")]


def test_policy_and_webhook_mean_the_same_pods() -> None:
    policies = read("injection-policy.yaml", "MutatingAdmissionPolicy")
    bindings = read("injection-policy.yaml", "MutatingAdmissionPolicyBinding")
    (configuration,) = read("injection-webhook.yaml", "MutatingWebhookConfiguration")
    (hook,) = configuration["webhooks"]
    for policy, binding in zip(policies, bindings, strict=True):
        assert policy["metadata"]["name"] == binding["metadata"]["name"] == binding["spec"]["policyName"]
        constraints = policy["spec"]["matchConstraints"]
        assert constraints["objectSelector"] == hook["objectSelector"]
        assert [rule | {"scope": "Namespaced"} for rule in constraints["resourceRules"]] == hook["rules"]
        assert binding["spec"]["matchResources"]["namespaceSelector"] == hook["namespaceSelector"]
        assert policy["spec"]["failurePolicy"] == hook["failurePolicy"] == "Ignore"
    assert hook["namespaceSelector"] == {"matchLabels": {TENANT: "true"}}
    assert hook["objectSelector"]["matchExpressions"][0]["key"] == SESSION_LABEL
    names = {body["metadata"]["name"] for body in bindings}
    assert {configuration["metadata"]["name"]} <= names == set(INJECTION)
    (service,) = read("injection-webhook.yaml", "Service")
    assert hook["clientConfig"]["service"]["name"] == service["metadata"]["name"] == SERVICE
    (roles,) = (role for role in read("operator.yaml", "ClusterRole") if role["metadata"]["name"] == "volatile-rse")
    rules = [rule for rule in roles["rules"] if rule["apiGroups"] == ["admissionregistration.k8s.io"]]
    assert [rule["resourceNames"] for rule in rules] == [[configuration["metadata"]["name"]], list(INJECTION)]


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


def test_the_policies_of_volumes_and_pods_know_the_namespace_of_the_buffers() -> None:
    (deployment,) = read("operator.yaml", "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    (buffers,) = (entry["value"] for entry in container["env"] if entry["name"] == "VOLATILE_RSE_BUFFERS")
    policies = {body["metadata"]["name"]: body["spec"] for body in read("admission.yaml", "ValidatingAdmissionPolicy")}
    said = policies["volatile-rse-volumes"]["validations"][0]["expression"]
    assert f"claimRef.namespace == '{buffers}'" in said
    for policy, sign in (("volatile-rse-pods", "=="), ("volatile-rse-gates", "!=")):
        said = policies[policy]["matchConditions"][1]["expression"]
        assert said == f"object.metadata.namespace {sign} '{buffers}'"
    (budget,) = read("operator.yaml", "PodDisruptionBudget")
    assert budget["metadata"]["namespace"] == buffers


def test_nothing_that_is_shipped_listens_on_addresses_of_the_fourth_version_alone() -> None:
    """The loopback has them in every pod; what listens for others does so for both versions, or by the pod's own."""
    known = {"agent/xrootd.py", "agent/front.py", "handlers/waiting.py"}
    checkout = MANIFESTS.parent
    folders = [checkout / name for name in ("operator", "images", "manifests", "charts")]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    found = {path for path in files if re.search(r"\b(0\.0\.0\.0|127\.\d|localhost)", path.read_text())}
    assert found == {checkout / "operator" / "volatile_rse" / name for name in known}


def test_people_get_their_requests_with_kubernetes_own_roles_and_records_by_roles_apart() -> None:
    roles = {role["metadata"]["name"]: role for role in read("operator.yaml", "ClusterRole")}
    prefix = "rbac.authorization.k8s.io/aggregate-to-"
    added = {
        name: sorted(label.removeprefix(prefix) for label in role["metadata"]["labels"] if label.startswith(prefix))
        for name, role in roles.items()
    }
    assert {name: to for name, to in added.items() if to} == {
        "volatile-rse-edit": ["admin", "edit"],
        "volatile-rse-view": ["view"],
    }
    for name in ("volatile-rse-edit", "volatile-rse-view"):
        assert [rule["resources"] for rule in roles[name]["rules"]] == [["volatilerses"]]
    verbs = {name: set(roles[name]["rules"][0]["verbs"]) for name in roles}
    looking = {"get", "list", "watch"}
    assert verbs["volatile-rse-view"] == verbs["volatile-rse-records-view"] == looking
    assert verbs["volatile-rse-records-discard"] == looking | {"patch", "update"}
