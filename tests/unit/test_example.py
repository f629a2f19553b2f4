"""The example is whole as a reader applies it: `kubectl apply -k examples/dimuon`."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from testbed import cluster, demo, installation, session
from testbed.layout import CHECKOUT
from testbed.progress import StepError
from volatile_rse.api.volatilerse import SESSION_LABEL
from volatile_rse.builders.objects import session_name

EXAMPLE = CHECKOUT / "examples" / "dimuon"


def read(name: str) -> dict[str, Any]:
    body: dict[str, Any] = yaml.safe_load((EXAMPLE / name).read_text())
    return body


WHOLE = read("kustomization.yaml")
PARTS = {body["kind"]: body for body in map(read, WHOLE["resources"])}
MADE = {entry["name"]: entry["files"] for entry in WHOLE["configMapGenerator"]}


def test_every_file_of_it_is_applied() -> None:
    used = {"kustomization.yaml", *WHOLE["resources"], *(file for files in MADE.values() for file in files)}
    assert used == {path.name for path in EXAMPLE.iterdir() if path.is_file()}


def test_what_its_pod_mounts_is_made_by_it_or_by_the_operator() -> None:
    request, job = PARTS["VolatileRSE"], PARTS["Job"]
    pod = job["spec"]["template"]["spec"]
    given = session_name(request["metadata"]["name"])
    maps = {volume["configMap"]["name"] for volume in pod["volumes"] if "configMap" in volume}
    assert maps == {given, *MADE}
    # A generated name would have to be in the Job, which cannot be changed.
    assert WHOLE["generatorOptions"] == {"disableNameSuffixHash": True}
    assert {volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume} == {given}


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
