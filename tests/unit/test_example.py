"""The example is whole as a reader applies it: `kubectl apply -k examples/dimuon`."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from testbed import cluster, demo, installation, session
from testbed.layout import CHECKOUT
from testbed.progress import StepError
from volatile_rse.api.volatilerse import SESSION_LABEL
from volatile_rse.builders.injection import inject
from volatile_rse.builders.objects import session_name
from volatile_rse.reconcile.session_pods import is_gated, is_given

EXAMPLE = CHECKOUT / "examples" / "dimuon"


def read(name: str) -> dict[str, Any]:
    body: dict[str, Any] = yaml.safe_load((EXAMPLE / name).read_text())
    return body


WHOLE = read("kustomization.yaml")
PARTS = {body["kind"]: body for body in map(read, WHOLE["resources"])}
BY_HAND: dict[str, Any] = yaml.safe_load((EXAMPLE.parent / "by-hand" / "job.yaml").read_text())
MADE = {entry["name"]: entry["files"] for entry in WHOLE["configMapGenerator"]}


def test_every_file_of_it_is_applied() -> None:
    used = {"kustomization.yaml", *WHOLE["resources"], *(file for files in MADE.values() for file in files)}
    assert used == {path.name for path in EXAMPLE.iterdir() if path.is_file()}


def test_what_its_pod_mounts_is_made_by_it_or_by_the_operator() -> None:
    given = session_name(PARTS["VolatileRSE"]["metadata"]["name"])
    template = PARTS["Job"]["spec"]["template"]
    # A generated name would have to be in the Job, which cannot be changed.
    assert WHOLE["generatorOptions"] == {"disableNameSuffixHash": True}
    assert mounted(template) == {("configMap", name) for name in MADE}
    both = {("configMap", given), ("secret", given)}
    assert mounted(inject(template, "sidecar")) == mounted(template) | both
    assert mounted(BY_HAND["spec"]["template"]) == mounted(template) | both


def test_by_hand_it_is_the_same_session() -> None:
    labels = [job["spec"]["template"]["metadata"]["labels"] for job in (PARTS["Job"], BY_HAND)]
    assert labels[0] == labels[1]
    names = [job["spec"]["template"]["spec"]["containers"][0]["image"] for job in (PARTS["Job"], BY_HAND)]
    assert names[0] == names[1]
    assert is_given(BY_HAND["spec"]["template"])


def test_the_page_s_job_has_its_session_by_its_label() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", (CHECKOUT / "docs" / "user.md").read_text(), re.DOTALL)
    template = yaml.safe_load(text)["spec"]["template"]
    assert not is_given(template)
    whole = inject(template, "sidecar")
    assert is_given(whole)
    assert is_gated(whole)


def mounted(template: dict[str, Any]) -> set[tuple[str, str]]:
    volumes = template["spec"]["volumes"]
    maps = {("configMap", volume["configMap"]["name"]) for volume in volumes if "configMap" in volume}
    return maps | {("secret", volume["secret"]["secretName"]) for volume in volumes if "secret" in volume}


def test_its_pod_is_its_session() -> None:
    name = PARTS["VolatileRSE"]["metadata"]["name"]
    assert PARTS["Job"]["spec"]["template"]["metadata"]["labels"][SESSION_LABEL] == name


def test_its_image_is_the_one_that_the_testbed_has() -> None:
    (container,) = PARTS["Job"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == session.NAME


def test_the_demo_applies_exactly_it(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, ...]] = []

    def kubectl(*argv: str, **_: object) -> str:
        calls.append(argv)
        return ""

    def stop(*_: object) -> None:
        message = "that was all"
        raise StepError(message)

    monkeypatch.setattr(cluster, "kubectl", kubectl)
    monkeypatch.setattr(installation, "up", lambda: None)
    monkeypatch.setattr(session, "image", lambda: session.NAME)
    monkeypatch.setattr(demo, "_namespace", lambda: None)
    monkeypatch.setattr(demo, "_clear", lambda _: None)
    monkeypatch.setattr(demo, "_save_logs", lambda: None)
    monkeypatch.setattr(demo, "wait_for", stop)
    with pytest.raises(StepError, match="that was all"):
        demo.run()
    assert calls == [("apply", "-n", "alice", "-k", str(EXAMPLE))]
