"""What a class offers is tried, and told in its status; no session waits for it."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.unit.reconcile.small_world import Small
from volatile_rse import __main__ as operator
from volatile_rse.adapters.fake_buffer import FakeEndpoints
from volatile_rse.adapters.fake_cluster import play_controllers
from volatile_rse.api.agent import DAVS_PORT
from volatile_rse.api.conditions import Reason
from volatile_rse.api.injection import TENANT
from volatile_rse.domain.naming import drain_name
from volatile_rse.ports import deadline
from volatile_rse.ports.cluster import Ref
from volatile_rse.ports.errors import UnreachableError
from volatile_rse.reconcile.class_status import ClassProbes
from volatile_rse.reconcile.connections import Connections
from volatile_rse.reconcile.service import Service
from volatile_rse.reconcile.world import World

CLASS = Ref("VolatileRSEClass", None, "standard")
HOST = "buffers.example.org"
DRAIN = Ref("Service", "bufs", drain_name(HOST))


class Trial:
    """A class that is tried again and again."""

    def __init__(self, *, injected: bool = True) -> None:
        self.small = Small(inputs=0)
        self.small.settings = replace(self.small.settings, injected=injected)
        # Without a buffer there is no Service to take the names of its host from.
        self.small.record_id = "abcdefghij"
        self.world: World = self.small.world()
        assert isinstance(self.world.endpoints, FakeEndpoints)
        self.endpoints = self.world.endpoints
        self.probes = ClassProbes(self.world, Connections(self.world))

    def probe(self, after: timedelta = timedelta()) -> None:
        self.small.clock.turn(after)
        self.probes.probe()

    def settle(self) -> None:
        """Have the empty server run, and the class seen with it."""
        self.probe()
        play_controllers(self.small.cluster)
        self.probe(timedelta(seconds=15))

    @property
    def status(self) -> dict[str, Any]:
        return dict((self.small.cluster.get(CLASS) or {}).get("status") or {})

    def conditions(self) -> dict[str, dict[str, Any]]:
        return {entry["type"]: entry for entry in self.status["conditions"]}

    def states(self) -> dict[str, str]:
        return {type_: entry["status"] for type_, entry in self.conditions().items()}


@pytest.fixture
def trial() -> Trial:
    return Trial()


def test_a_class_is_ready_once_all_that_it_offers_was_tried(trial: Trial) -> None:
    trial.probe()
    assert trial.states() == {
        "Ready": "Unknown",
        "ConfigurationValid": "True",
        "CatalogueUsable": "True",
        "SitesUsable": "True",
        "ExposureUsable": "Unknown",
        "InjectionWorks": "True",
    }
    assert trial.conditions()["Ready"]["message"].startswith("ExposureUsable: The empty server")
    play_controllers(trial.small.cluster)
    trial.probe(timedelta(seconds=15))
    assert set(trial.states().values()) == {"True"}, trial.conditions()
    assert trial.status["observedGeneration"] == (trial.small.cluster.get(CLASS) or {})["metadata"]["generation"]
    assert "site-a.example.org, site-b.example.org" in trial.conditions()["SitesUsable"]["message"]
    assert "seen from inside" in trial.conditions()["ExposureUsable"]["message"]
    assert [url.rpartition("/")[2] for url, _ in trial.small.shown] == ["volatile-rse-probe", ""] * (
        len(trial.small.shown) // 2
    )


def test_nothing_is_written_or_asked_of_a_class_that_goes_on_working(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial.settle()
    before, shown = (trial.small.cluster.get(CLASS) or {})["metadata"]["resourceVersion"], len(trial.small.shown)
    written = list[object]()
    monkeypatch.setattr(trial.small.cluster, "merge", lambda *args, **_: written.append(args))
    trial.probe(timedelta(minutes=9))
    assert len(trial.small.shown) == shown, "it was asked again too early"
    trial.probe(timedelta(minutes=1))
    assert len(trial.small.shown) == shown + 4
    assert written == []
    assert (trial.small.cluster.get(CLASS) or {})["metadata"]["resourceVersion"] == before


def _without_connection(trial: Trial) -> None:
    trial.small.cluster.merge(CLASS, {"spec": {"connectionName": "other"}})


def _without_rights(trial: Trial) -> None:
    trial.small.catalogue.privileged = False


def _without_scope(trial: Trial) -> None:
    trial.small.catalogue.scopes = {"user.alice"}


def _silent_rucio(trial: Trial) -> None:
    trial.small.catalogue.down = True


def _no_secret(trial: Trial) -> None:
    trial.small.cluster.merge(CLASS, {"spec": {"siteCredentials": {"secretName": "none"}}})


def _without_injection(trial: Trial) -> None:
    trial.small.cluster.mutate = lambda body: body


def _untried_injection(trial: Trial) -> None:
    trial.small.cluster.merge(Ref("Namespace", None, "bufs"), {"metadata": {"labels": {TENANT: None}}})


def _refused(trial: Trial) -> None:
    trial.endpoints.refused.add("token")


def _silent_site(trial: Trial) -> None:
    trial.endpoints.silent.add("site-b.example.org")


def _ended(trial: Trial) -> None:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": 1}).encode()).decode().rstrip("=")
    _token(trial, "site-a.example.org", f"e30.{claims}.x")


def _odd_token(trial: Trial) -> None:
    _token(trial, "site-a.example.org", "two words")


def _token(trial: Trial, key: str, token: str) -> None:
    ref = Ref("Secret", "ops", "site-tokens")
    trial.small.cluster.merge(ref, {"stringData": {key: token}})


def _no_grant(trial: Trial) -> None:
    grants = [{"namespaces": ["a"], "namespaceSelector": {"matchLabels": {"-": "x"}}, "accounts": ["alice"]}]
    trial.small.cluster.merge(CLASS, {"spec": {"tenancy": {"grants": grants}}})


def _shut(trial: Trial) -> None:
    ports = (trial.small.cluster.get(DRAIN) or {})["spec"]["ports"]
    trial.small.buffer.shut[ports[0]["nodePort"]] = "connection refused"


@pytest.mark.parametrize(
    ("wrong", "type_", "reason", "words"),
    [
        (_without_connection, "CatalogueUsable", "UnknownConnection", "RucioConnection 'other' does not exist"),
        (_without_rights, "CatalogueUsable", "RightsMissing", "attribute admin"),
        (_without_scope, "CatalogueUsable", "RightsMissing", "no scope vrse"),
        (_silent_rucio, "CatalogueUsable", "CatalogueUnreachable", "does not answer"),
        (_no_secret, "SitesUsable", "CredentialMissing", "Secret ops/none does not exist"),
        (_refused, "SitesUsable", "SiteRefused", "davs://site-a.example.org:8443/"),
        (_silent_site, "SitesUsable", "SiteUnreachable", "site-b.example.org"),
        (_ended, "SitesUsable", "SiteRefused", "a token that ended at 1970-01-01T00:00:01Z"),
        (_odd_token, "SitesUsable", "CredentialInvalid", "site-a.example.org is no token"),
        (_without_injection, "InjectionWorks", "InjectionMissing", "does not get what its session has"),
        (_untried_injection, "InjectionWorks", "InjectionMissing", "Namespace bufs lacks the label"),
        (_no_grant, "ConfigurationValid", "ConfigurationInvalid", "grants[0]"),
        (_shut, "ExposureUsable", "PublicHostUnreachable", "connection refused"),
    ],
)
def test_what_is_wrong_is_told_with_who_must_act(
    trial: Trial, wrong: Callable[[Trial], None], type_: str, reason: str, words: str
) -> None:
    trial.settle()
    wrong(trial)
    trial.probe(timedelta(minutes=10))
    told = trial.conditions()[type_]
    assert (told["status"], told["reason"]) == ("False", reason), trial.conditions()
    assert words in told["message"]
    assert re.search(r" must act: .*`(kubectl|curl|nc) |named command", told["message"]), told["message"]
    others = {name: state for name, state in trial.states().items() if name not in {"Ready", type_}}
    assert set(others.values()) == {"True"}, trial.conditions()
    ready = trial.conditions()["Ready"]
    assert (ready["status"], ready["reason"]) == ("False", reason)
    assert ready["message"].startswith(f"{type_}: ")


def test_injection_that_an_admin_does_without_is_nothing_wrong() -> None:
    trial = Trial(injected=False)
    _without_injection(trial)
    trial.settle()
    assert set(trial.states().values()) == {"True"}, trial.conditions()
    assert "mount by hand" in trial.conditions()["InjectionWorks"]["message"]


@pytest.mark.parametrize(("said", "injected"), [("none", False), ("webhook", True), (None, True)])
def test_the_operator_is_told_whether_there_is_injection(
    trial: Trial,
    monkeypatch: pytest.MonkeyPatch,
    said: str | None,
    injected: bool,  # noqa: FBT001 (a column)
) -> None:
    for name in ("NAMESPACE", "BUFFERS", "BUFFER_IMAGE"):
        monkeypatch.setenv(f"VOLATILE_RSE_{name}", "x")
    monkeypatch.delenv("VOLATILE_RSE_INJECTION", raising=False)
    if said is not None:
        monkeypatch.setenv("VOLATILE_RSE_INJECTION", said)
    assert operator._settings(trial.small.cluster).injected is injected


def _out_of_time(monkeypatch: pytest.MonkeyPatch, trial: Trial, *late: str) -> None:
    """Have the time be over when these sites are asked."""
    is_taken = trial.endpoints.is_taken

    def asks(url: str, token: str, trust: str | None) -> bool:
        assert deadline.left() <= 60, "the rest of the trial has its own time"
        if any(host in url for host in late):
            over = deadline.missed()
            raise UnreachableError(Reason.SITE_UNREACHABLE, f"HEAD {url} got no answer: {over}") from over
        return is_taken(url, token, trust)

    monkeypatch.setattr(trial.endpoints, "is_taken", asks)


def test_sites_that_are_silent_for_too_long_are_told_all_the_same(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial.settle()
    trial.endpoints.silent.add("site-a.example.org")
    _out_of_time(monkeypatch, trial, "site-b.example.org")
    trial.probe(timedelta(minutes=10))
    told = trial.conditions()["SitesUsable"]
    assert (told["status"], told["reason"]) == ("False", "SiteUnreachable")
    assert "site-a.example.org" in told["message"]
    assert "no time to try site-b.example.org" in told["message"]


def test_sites_that_there_was_no_time_for_are_named(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    trial.settle()
    _out_of_time(monkeypatch, trial, "site-b.example.org")
    trial.probe(timedelta(minutes=10))
    assert trial.states()["SitesUsable"] == "True"
    assert "There was no time to try site-b.example.org" in trial.conditions()["SitesUsable"]["message"]
    before = trial.conditions()["SitesUsable"]
    _out_of_time(monkeypatch, trial, "site-a.example.org", "site-b.example.org")
    trial.probe(timedelta(minutes=10))
    assert trial.conditions()["SitesUsable"] == before, "what could not be asked stays"


@pytest.mark.parametrize("wrong", [_without_rights, _refused, _shut])
def test_no_session_waits_for_it(trial: Trial, wrong: Callable[[Trial], None]) -> None:
    trial.settle()
    wrong(trial)
    trial.probe(timedelta(minutes=10))
    assert trial.states()["Ready"] == "False"
    small = trial.small
    small.buffer.shut.clear()
    small.request()
    small.until(small.has_session)
    assert small.has_session()


def test_what_fails_is_tried_again_less_and_less_often_and_at_once_when_it_was_changed(trial: Trial) -> None:
    trial.settle()
    trial.endpoints.refused.add("token")
    trial.probe(timedelta(minutes=10))
    asked = []
    for _ in range(80):
        shown = len(trial.small.shown)
        trial.probe(timedelta(seconds=15))
        asked.append(len(trial.small.shown) > shown)
    times = [15 * (at + 1) for at, was_asked in enumerate(asked) if was_asked]
    assert times == [15, 45, 105, 225, 465, 945], "doubled each time"
    trial.endpoints.refused.clear()
    trial.small.cluster.merge(CLASS, {"spec": {"maxTtl": "29d"}})
    trial.probe()
    assert set(trial.states().values()) == {"True"}


def test_a_connection_that_answers_again_has_its_classes_tried(trial: Trial) -> None:
    trial.settle()
    trial.small.catalogue.down = True
    service = Service(trial.world, threads=0)
    service.sweep()
    service.try_classes()
    assert trial.conditions()["CatalogueUsable"]["reason"] == "CatalogueUnreachable"
    trial.small.catalogue.down = False
    service.sweep()
    service.try_classes()
    assert trial.states()["CatalogueUsable"] == "True"


def test_a_class_that_cannot_be_read_says_so_and_stops_no_other(trial: Trial) -> None:
    spec = (trial.small.cluster.get(CLASS) or {})["spec"]
    trial.small.cluster.create(
        {
            "apiVersion": "volatilerse.io/v1alpha1",
            "kind": "VolatileRSEClass",
            "metadata": {"name": "aaa"},
            "spec": {**spec, "colour": "blue"},
        }
    )
    trial.settle()
    odd = (trial.small.cluster.get(Ref("VolatileRSEClass", None, "aaa")) or {})["status"]["conditions"]
    told: Mapping[str, Any] = next(entry for entry in odd if entry["type"] == "ConfigurationValid")
    assert told["status"] == "False"
    assert "spec.colour" in told["message"]
    assert set(trial.states().values()) == {"True"}


@pytest.mark.parametrize(
    "status",
    [{"conditions": "odd"}, {"conditions": [7, {"type": 7}, {"type": "Ready", "lastTransitionTime": "x"}]}, {}],
)
def test_whatever_stands_in_the_status_is_written_over(trial: Trial, status: dict[str, Any]) -> None:
    trial.small.cluster.merge(CLASS, {"status": status}, subresource="status")
    trial.settle()
    assert set(trial.states().values()) == {"True"}


def test_the_tokens_own_folder_is_asked_where_it_has_one(trial: Trial) -> None:
    _token(trial, "site-a.example.org_paths", "/elsewhere/alice :1/other")
    trial.settle()
    urls = {url for url, _ in trial.small.shown if "site-a" in url}
    folder = "davs://site-a.example.org:8443/elsewhere/alice/"
    assert urls == {folder, f"{folder}volatile-rse-probe"}


def test_a_token_to_write_by_is_tried_to_write(trial: Trial) -> None:
    _token(trial, "site-a.example.org_write", "another")
    trial.endpoints.for_reading.add("another")
    trial.settle()
    told = trial.conditions()["SitesUsable"]
    assert (told["status"], told["reason"]) == ("False", "SiteRefused")
    assert "davs://site-a.example.org:8443/data/ refuses the token to write" in told["message"]
    trial.endpoints.for_reading.clear()
    trial.endpoints.refused.add("another")
    trial.probe(timedelta(minutes=10))
    assert "refuses the token to write" in trial.conditions()["SitesUsable"]["message"]


def test_a_source_of_inputs_alone_need_not_take_its_token_to_write(trial: Trial) -> None:
    trial.endpoints.for_reading.add("token")
    trial.settle()
    told = trial.conditions()["SitesUsable"]
    assert told["status"] == "True"
    assert "To read alone by site-a.example.org, site-b.example.org: no output can go there." in told["message"]


def test_a_site_that_two_classes_share_is_asked_once(trial: Trial) -> None:
    body = trial.small.cluster.get(CLASS) or {}
    metadata = {"name": "other"}
    kind = {"apiVersion": "volatilerse.io/v1alpha1", "kind": "VolatileRSEClass"}
    trial.small.cluster.create({**kind, "metadata": metadata, "spec": body["spec"]})
    trial.probe()
    assert len(trial.small.shown) == len({url for url, _ in trial.small.shown}) == 4


def test_a_class_that_nobody_may_write_to_is_only_logged(trial: Trial) -> None:
    def refuses(*_: object, **__: object) -> None:
        raise UnreachableError(Reason.CLUSTER_UNREACHABLE, "The API server is away.")

    trial.small.cluster.merge = refuses  # type: ignore[method-assign, assignment]
    trial.probe()
    assert "conditions" not in trial.status


def test_the_empty_server_has_one_port_of_its_own(trial: Trial) -> None:
    trial.settle()
    service = trial.small.cluster.get(DRAIN) or {}
    assert [port["port"] for port in service["spec"]["ports"]] == [DAVS_PORT]
