"""Who may say for which user a VolatileRSE is, and change it later: asked of a real API server."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from testbed import cluster, installation
from testbed.layout import CHECKOUT
from testbed.progress import StepError
from testbed.sessions import wait_for
from tests import pages

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

PAGE = (CHECKOUT / "docs" / "jupyterhub.md").read_text()
(HELPER,) = (line.split() for line in PAGE.splitlines() if "rolebinding hub-helpers" in line)
NANO, MORE = ({"name": name, "did": "user.alice:nano"} for name in ("nano", "more"))
VERBS = {"editor": ["get", "create", "patch", "delete"], "patcher": ["get", "create", "patch"]}
"""What others than the hub may do with VolatileRSEs; the hub has those of the page."""
RBAC = "rbac.authorization.k8s.io"


@dataclass(frozen=True, slots=True)
class Namespace:
    """One with a hub and others who have some rights there."""

    name: str

    def kubectl(self, *argv: str, who: str = "", stdin: str = "") -> None:
        identity = [f"--as=system:serviceaccount:{self.name}:{who}"] if who else []
        cluster.kubectl("-n", self.name, *identity, *argv, stdin=stdin or None)

    def create(self, who: str, *argv: str, **spec: object) -> None:
        body = {
            "apiVersion": "volatilerse.io/v1alpha1",
            "kind": "VolatileRSE",
            "metadata": {"name": "run"},
            "spec": {"className": "none-of-these", "account": "alice", "capacity": "1Gi", **spec},
        }
        self.kubectl("create", "-f", "-", *argv, who=who, stdin=json.dumps(body))

    def change(self, who: str, body: dict[str, Any], *argv: str) -> None:
        self.kubectl("patch", "vrse", "run", "--type=merge", "-p", json.dumps(body), *argv, who=who)

    def refusal(self, who: str, spec: dict[str, Any]) -> str:
        """Say why a change is refused, and change nothing; empty: it is not."""
        try:
            self.change(who, {"spec": spec}, "--dry-run=server")
        except StepError as error:
            return str(error)
        return ""


@pytest.fixture
def place(namespace: str, tmp_path: Path) -> Namespace:
    installation.up()
    found = Namespace(namespace)
    for name in ("hub", *VERBS):
        found.kubectl("create", "serviceaccount", name)
    pages.run(pages.script("jupyterhub.md").replace("-n jupyter", f"-n {namespace}"), tmp_path, {}, 60)
    for name, verbs in VERBS.items():
        made = {"apiVersion": f"{RBAC}/v1", "metadata": {"name": name}}
        rules = [{"apiGroups": ["volatilerse.io"], "resources": ["volatilerses"], "verbs": verbs}]
        reference = {"apiGroup": RBAC, "kind": "Role", "name": name}
        role = {**made, "kind": "Role", "rules": rules}
        subjects = [{"kind": "ServiceAccount", "name": name}]
        binding = {**made, "kind": "RoleBinding", "roleRef": reference, "subjects": subjects}
        for body in (role, binding):
            found.kubectl("apply", "-f", "-", stdin=json.dumps(body))
    return found


def test_only_who_may_use_hubusers_says_whose_it_is(place: Namespace) -> None:
    place.create("editor", "--dry-run=server")
    with pytest.raises(StepError, match="may not use hubusers in namespace"):
        place.create("editor", "--dry-run=server", onBehalfOf="alice@cern.ch")
    place.create("hub", onBehalfOf="alice@cern.ch")
    for wrong in ("bob@cern.ch", None):
        assert "onBehalfOf is immutable" in place.refusal("hub", {"onBehalfOf": wrong})
    place.kubectl("delete", "vrse", "run", "--wait=false", who="editor")


def test_what_goes_by_a_user_s_grants_is_changed_by_who_may_use_hubusers(place: Namespace) -> None:
    place.create("hub", onBehalfOf="alice@cern.ch", inputs=[NANO])
    wanted: list[dict[str, Any]] = [
        {"inputs": [NANO, MORE]},
        {"inputs": []},
        {"session": {"extendUntil": "2027-01-01T00:00:00Z"}},
        {"teardown": {"fetch": True}},
        {"endRequested": True, "ttlAfterFinished": "1s"},
    ]
    said = "editor may not use hubusers in namespace"
    wait_for("the policy is in force", lambda: said in place.refusal("editor", wanted[0]), 30)
    for spec in wanted:
        assert said in place.refusal("editor", spec)
        assert not place.refusal("hub", spec)
    # What changes nothing of the spec is no matter of grants: notes, and what Kubernetes' own controllers write.
    place.change("patcher", {"metadata": {"annotations": {"note": "seen"}, "finalizers": ["foregroundDeletion"]}})
    place.change("patcher", {"metadata": {"finalizers": None}, "spec": {"inputs": [NANO]}})
    end = {"endRequested": True}
    assert "patcher may neither use hubusers nor delete this VolatileRSE" in place.refusal("patcher", end)
    assert not place.refusal("editor", end)
    helper = {"jupyter": place.name, "--user=carol": f"--serviceaccount={place.name}:patcher"}
    cluster.kubectl(*(helper.get(word, word) for word in HELPER[1:]))
    wait_for("who helps may do all of it", lambda: not place.refusal("patcher", wanted[0]), 30)
    place.change("hub", {"spec": end})
    place.kubectl("delete", "vrse", "run", "--wait=false", who="editor")
