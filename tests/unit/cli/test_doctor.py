"""What `vrse doctor` finds wrong, and what it leaves alone."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.cli.api_server import ApiServer, refusal, try_classes
from tests.unit.cli.conftest import Vrse
from tests.unit.reconcile.small_world import Small
from volatile_rse.adapters.authority import LocalAuthority
from volatile_rse.api.injection import TENANT
from volatile_rse.cli import program, reach
from volatile_rse.ports.cluster import Ref

CLASS = Ref("VolatileRSEClass", None, "standard")
DEPLOYMENTS = "/apis/apps/v1/namespaces/volatile-rse/deployments"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/volatile-rse/leases/volatile-rse"
KIND = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/volatilerses.volatilerse.io"
BINDINGS = "/apis/rbac.authorization.k8s.io/v1/namespaces/alice/rolebindings"


def checks(vrse: Vrse) -> dict[str, dict[str, str]]:
    return {check["what"]: check for check in yaml.safe_load(vrse("doctor", "-o", "yaml").out)["checks"]}


def wrong(vrse: Vrse) -> dict[str, str]:
    return {what: check["message"] for what, check in checks(vrse).items() if check["state"] == "wrong"}


@pytest.mark.usefixtures("server")
def test_of_what_is_well_nothing_is_wrong_and_nothing_unknown(small: Small, vrse: Vrse) -> None:
    try_classes(small)
    done = vrse("doctor")
    assert (done.code, done.err) == (0, ""), done.out
    states = {line.split()[0] for line in done.out.splitlines()}
    assert states == {"ok"}, done.out
    assert json.loads(vrse("doctor", "-o", "json").out)["checks"][0]["what"] == "API server"


def _no_kind(_: Small, server: ApiServer) -> None:
    server.answers[f"GET {KIND}"] = refusal(404, "NotFound", "not found", name="x")


def _old_kind(_: Small, server: ApiServer) -> None:
    spec = server.others[KIND]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    del spec["properties"]["ttlAfterFinished"]


def _no_operator(_: Small, server: ApiServer) -> None:
    server.others[DEPLOYMENTS] = {"items": [{"metadata": {"name": "other"}, "spec": {}}]}


def _broken_operator(_: Small, server: ApiServer) -> None:
    server.others[DEPLOYMENTS]["items"][0]["status"] = {}


def _idle_operator(small: Small, _: ApiServer) -> None:
    small.clock.turn(timedelta(minutes=3))


def _nobody(_: Small, server: ApiServer) -> None:
    server.others[LEASE] = {"spec": {}}


def _silent_rucio(small: Small, _: ApiServer) -> None:
    small.catalogue.down = True
    small.clock.turn(timedelta(minutes=10))
    try_classes(small)


def _no_class(small: Small, _: ApiServer) -> None:
    body = small.cluster.get(CLASS) or {}
    small.cluster.delete(CLASS, body["metadata"]["uid"])


def _not_enabled(_: Small, server: ApiServer) -> None:
    server.others[BINDINGS] = {"items": []}


def _no_grant(small: Small, _: ApiServer) -> None:
    grants = [{"namespaces": ["bob"], "accounts": ["bob"]}]
    small.cluster.merge(CLASS, {"spec": {"tenancy": {"grants": grants}}})


@pytest.mark.parametrize(
    "case",
    [
        (_no_kind, "kind VolatileRSE", "kubectl apply --server-side -f crds/"),
        (_old_kind, "kind VolatileRSE", "an older one, without spec.ttlAfterFinished"),
        (_no_operator, "operator in volatile-rse", "There is none"),
        (_broken_operator, "operator in volatile-rse", "kubectl -n volatile-rse logs deployment/volatile-rse"),
        (_idle_operator, "Lease volatile-rse/volatile-rse", "pod-1 has not renewed it for"),
        (_nobody, "Lease volatile-rse/volatile-rse", "No operator holds it"),
        (_silent_rucio, "RucioConnection rucio", "CatalogueUnreachable"),
        (_silent_rucio, "class standard: CatalogueUsable", "CatalogueUnreachable"),
        (_no_class, "classes", "There is none"),
        (_not_enabled, "namespace alice", "kubectl apply -n alice -f manifests/tenant.yaml"),
        (_no_grant, "grants of alice", "add a grant for alice"),
    ],
)
def test_what_is_wrong_is_told_with_who_must_act(
    case: tuple[Callable[[Small, ApiServer], None], str, str], small: Small, server: ApiServer, vrse: Vrse
) -> None:
    try_classes(small)
    break_, what, words = case
    break_(small, server)
    told = wrong(vrse)
    assert words in told.get(what, ""), told
    assert " must act: " in told[what]
    done = vrse("doctor")
    assert done.code == 1
    assert f"{what}: " in done.out


def test_a_namespace_whose_pods_get_nothing_by_a_label_is_told(small: Small, vrse: Vrse) -> None:
    try_classes(small)
    small.cluster.merge(Ref("Namespace", None, "alice"), {"metadata": {"labels": {TENANT: None}}})
    found = checks(vrse)["namespace alice"]
    # Who mounts by hand, or has a hub, needs none.
    assert found["state"] == "ok"
    assert "`kubectl label namespace alice volatilerse.io/tenant=true`" in found["message"]


def test_what_is_not_tried_as_it_is_now_is_unknown(small: Small, vrse: Vrse) -> None:
    try_classes(small)
    small.cluster.merge(CLASS, {"spec": {"maxTtl": "1d"}})
    assert checks(vrse)["class standard"]["state"] == "unknown"
    assert vrse("doctor").code == 0


def test_a_user_without_rights_is_told_what_nobody_looked_at(small: Small, server: ApiServer, vrse: Vrse) -> None:
    try_classes(small)
    for path in (KIND.rpartition("/")[0], DEPLOYMENTS, "/apis/volatilerse.io/v1alpha1/volatilerseclasses", BINDINGS):
        server.answers[f"GET {path}"] = refusal(403, "Forbidden", "alice cannot get this")
    found = checks(vrse)
    assert {check["state"] for check in found.values()} == {"ok", "unknown"}
    assert found["operator in volatile-rse"]["message"] == "You may not read Deployments of namespace volatile-rse."
    assert vrse("doctor").code == 0


def test_a_clock_that_goes_wrong_is_told(small: Small, vrse: Vrse, monkeypatch: pytest.MonkeyPatch) -> None:
    try_classes(small)
    now = small.clock.now()
    monkeypatch.setattr(program, "now", lambda: now - timedelta(minutes=5))
    assert "300 s behind the API server's" in wrong(vrse)["clock"]


@pytest.mark.parametrize(
    ("reached", "words"),
    [
        (reach.Reached(why_not="timed out"), "timed out. ADMIN must act: if Rucio's daemons are where you are"),
        (reach.Reached(until=0.0), "Its certificate ends at 1970-01-01T00:00:00Z"),
    ],
)
def test_the_way_from_here_is_tried(
    reached: reach.Reached, words: str, small: Small, vrse: Vrse, monkeypatch: pytest.MonkeyPatch
) -> None:
    try_classes(small)
    monkeypatch.setattr(reach, "reach", lambda *_: reached)
    assert words in wrong(vrse)["public host buffers.example.org, from here"]


def test_an_api_server_that_is_away_is_another_exit_code(server: ApiServer, vrse: Vrse) -> None:
    server.answers["GET /version"] = 503, {}
    assert vrse("doctor").code == 5


def test_a_server_is_reached_only_with_a_certificate_for_its_name(tmp_path: Path) -> None:
    authority = LocalAuthority(*LocalAuthority.create())
    pair = authority.server(["localhost"], timedelta(days=5))
    for name, text in (("crt", pair.certificate), ("key", pair.key)):
        (tmp_path / name).write_text(text)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        thread = threading.Thread(target=_serve, args=(listening, context), daemon=True)
        thread.start()
        found: dict[str, Any] = {
            "right": reach.reach("localhost", port, authority.bundle()),
            "name": reach.reach("127.0.0.1", port, authority.bundle()),
            "authority": reach.reach("localhost", port, LocalAuthority.create()[0]),
            "no authority": reach.reach("localhost", port, ""),
            "odd": reach.reach("localhost", port, "no PEM"),
        }
    assert found["right"].why_not == ""
    assert found["right"].until is not None
    for case in ("name", "authority"):
        assert "certificate verify failed" in found[case].why_not, case
    assert all(found[case].why_not for case in ("no authority", "odd"))


def _serve(listening: socket.socket, context: ssl.SSLContext) -> None:
    while True:
        try:
            connection, _ = listening.accept()
            with connection, context.wrap_socket(connection, server_side=True):
                pass
        except ssl.SSLError:
            continue
        except OSError:
            return
