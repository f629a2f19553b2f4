"""The spawner on a real KubeSpawner; what asks a cluster is replaced."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import date
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from kubernetes_asyncio.client import ApiClient
from kubespawner import KubeSpawner

from testbed.layout import CHECKOUT
from tests.unit.jupyterhub.fake_api import ApiError, FakeApi
from volatile_rse.api.volatilerse import VolatileRSESpec
from volatile_rse.builders.injection import inject
from volatile_rse.jupyterhub import RefusedError, hooks, sessions
from volatile_rse.jupyterhub.cluster import Cluster
from volatile_rse.jupyterhub.spawner import VolatileRSESpawner
from volatile_rse.jupyterhub.volatilerses import SERVER_LABEL

WANTED = {"volatile_rse": {"inputs": ["user.alice:a"]}}
USABLE = {
    "rse": "VRSE-X",
    "endpoints": [{"protocol": "davs", "url": "https://b:8443"}, {"protocol": "root", "url": "root://b:1094"}],
    "conditions": [{"type": "Usable", "status": "True"}],
}


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> FakeApi:
    made = FakeApi()
    made.on_read = lambda body: body.update(status=USABLE)
    monkeypatch.setattr(hooks, "_cluster", lambda _: Cluster(made))
    monkeypatch.setattr(sessions, "_PERIOD", 0.01)
    monkeypatch.setattr("kubespawner.spawner.load_config", lambda **_: None)
    monkeypatch.setattr("kubespawner.spawner.shared_client", lambda _: SimpleNamespace())

    async def start(self: Any) -> tuple[str, int]:
        self.pod = await self.get_pod_manifest()
        return ("127.0.0.1", 8888)

    async def nothing(self: Any, **_: Any) -> None:
        pass

    async def events(_: Any) -> AsyncIterator[dict[str, Any]]:
        yield {"message": "[Normal] Scheduled", "progress": 30}
        yield {"message": "patience"}

    monkeypatch.setattr(KubeSpawner, "_start", start)
    monkeypatch.setattr(KubeSpawner, "_start_watching_events", nothing)
    monkeypatch.setattr(KubeSpawner, "progress", events)
    return made


def spawner(options: Any = WANTED, **traits: Any) -> Any:
    made = VolatileRSESpawner(_mock=True, namespace="hub", cmd=["x"], **traits)
    made.user.name, made.user_options = "alice", options
    made.get_env = lambda: {"JUPYTER_CONFIG_PATH": "/mine"}
    return made


async def listened(made: Any) -> list[dict[str, Any]]:
    return [event async for event in made.progress()]


async def started(made: Any) -> Any:
    await made.start()
    return json.loads(json.dumps(ApiClient().sanitize_for_serialization(made.pod)))


def test_the_pod_is_the_session_and_mounts_its_objects(api: FakeApi) -> None:
    async def run() -> Any:
        return await started(spawner(vrse_rucio={"rucio_base_url": "https://rucio", "default_auth_type": "oidc"}))

    pod = asyncio.run(run())
    (name,) = api.bodies
    assert pod["metadata"]["labels"]["volatilerse.io/session"] == name
    assert pod["metadata"]["annotations"]["volatilerse.io/wait"] == "false"
    volumes = {entry["name"]: entry for entry in pod["spec"]["volumes"]}
    assert volumes["volatilerse-config"]["configMap"] == {"name": f"{name}-vrse", "optional": True}
    assert volumes["volatilerse-token"]["secret"] == {"secretName": f"{name}-vrse", "optional": True}
    mounts = {entry["mountPath"]: entry["name"] for entry in pod["spec"]["containers"][0]["volumeMounts"]}
    assert mounts == {
        "/etc/vrse": "volatilerse-config",
        "/etc/vrse-secret": "volatilerse-token",
        "/etc/vrse-jupyter": "volatilerse-jupyter",
    }
    files = mounted(pod, "volatilerse-jupyter")
    told = json.loads(files["jupyter_server_config.json"])
    (instance,) = told["RucioConfig"]["instances"]
    assert (instance["destination_rse"], instance["rse_mount_path"]) == ("VRSE-X", "root://b:1094//")
    assert instance["rucio_base_url"] == "https://rucio"
    assert instance["name"] == told["RucioConfig"]["default_instance"] == "vrse"
    assert told["RucioConfig"]["default_auth_type"] == "oidc"
    assert "default_auth_type" not in instance
    (own,) = (entry for entry in pod["spec"]["containers"][0]["env"] if entry["name"] == "JUPYTER_CONFIG_PATH")
    assert own["value"] == "/mine:/etc/vrse-jupyter"
    (folder,) = told["LabServerApp"]["extra_labextensions_path"]
    assert folder == "/etc/vrse-jupyter/labextensions"
    package = json.loads(files["labextensions/volatile-rse/package.json"])
    script = files[f"labextensions/{package['name']}/{package['jupyterlab']['_build']['load']}"]
    assert f'_JUPYTERLAB || {{}})["{package["name"]}"] =' in script
    assert json.dumps({"instance": "vrse", "rse": "VRSE-X", "session": name}) in script


def mounted(pod: dict[str, Any], volume: str) -> dict[str, str]:
    """Give the files that the pod has of its annotations."""
    (found,) = (entry for entry in pod["spec"]["volumes"] if entry["name"] == volume)
    fields = {item["path"]: item["fieldRef"]["fieldPath"] for item in found["downwardAPI"]["items"]}
    annotations = pod["metadata"]["annotations"]
    keys = {path: field.removeprefix("metadata.annotations['").removesuffix("']") for path, field in fields.items()}
    return {path: annotations[key] for path, key in keys.items()}


@pytest.mark.usefixtures("api")
def test_a_configuration_that_is_no_json_fails_no_spawn(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> Any:
        return await started(spawner(vrse_rucio={"rucio_base_url": "https://rucio", "since": date(2026, 12, 1)}))

    pod = asyncio.run(run())
    assert "volatilerse.io/session" in pod["metadata"]["labels"]
    assert "volatilerse-jupyter" not in [volume["name"] for volume in pod["spec"]["volumes"]]
    assert "vrse_rucio is not to be written" in caplog.text


@pytest.mark.usefixtures("api")
def test_where_pods_are_injected_it_gets_the_rest_and_is_not_held() -> None:
    async def run() -> Any:
        return await started(spawner())

    pod = asyncio.run(run())
    own = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    injected = inject(pod, "sidecar:1", usable=False)
    volumes = [volume["name"] for volume in injected["spec"]["volumes"]]
    mounts = [mount["mountPath"] for mount in injected["spec"]["containers"][0]["volumeMounts"]]
    assert len(set(volumes)) == len(volumes)
    assert len(set(mounts)) == len(mounts)
    assert all(volume == own[volume["name"]] for volume in injected["spec"]["volumes"] if volume["name"] in own)
    assert "schedulingGates" not in injected["spec"]
    assert injected["spec"]["initContainers"][0]["image"] == "sidecar:1"


@pytest.mark.usefixtures("api")
def test_what_a_site_mounts_there_itself_stays() -> None:
    async def run() -> Any:
        made = spawner()
        made.volumes = [{"name": "volatilerse-config", "emptyDir": {}}]
        made.volume_mounts = [{"name": "volatilerse-config", "mountPath": "/etc/vrse"}]
        return await started(made)

    pod = asyncio.run(run())
    assert [entry for entry in pod["spec"]["volumes"] if entry["name"] == "volatilerse-config"] == [
        {"name": "volatilerse-config", "emptyDir": {}}
    ]
    assert [m["mountPath"] for m in pod["spec"]["containers"][0]["volumeMounts"]] == ["/etc/vrse", "/etc/vrse-secret"]


def test_a_server_without_data_is_an_ordinary_one(api: FakeApi) -> None:
    async def run() -> tuple[Any, list[dict[str, Any]]]:
        made = spawner({})
        return await started(made), await listened(made)

    pod, events = asyncio.run(run())
    assert not api.bodies
    assert "volatilerse.io/session" not in pod["metadata"]["labels"]
    assert [event.get("progress") for event in events] == [30, None]


def test_every_listener_hears_all_of_it_from_the_begin(api: FakeApi) -> None:
    async def run() -> list[list[dict[str, Any]]]:
        made = spawner()
        early = asyncio.ensure_future(listened(made))
        await asyncio.sleep(0)
        await made.start()
        return [await early, await listened(made)]

    early, late = asyncio.run(run())
    assert early == late
    (name,) = api.bodies
    assert [event["message"] for event in early] == [
        f"A buffer for your session is made: VolatileRSE {name}.",
        "The data are there, on VRSE-X.",
        "[Normal] Scheduled",
        "patience",
    ]
    assert [event.get("progress") for event in early] == [1, 80, 86, None]


@pytest.mark.usefixtures("api")
def test_a_hub_without_rights_to_events_watches_none(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused(_: Any) -> None:
        pytest.fail("KubeSpawner ends the hub where it may not watch")

    monkeypatch.setattr(KubeSpawner, "_start_watching_events", refused)

    async def run() -> list[dict[str, Any]]:
        made = spawner(events_enabled=False)
        await made.start()
        return await listened(made)

    assert "The data are there, on VRSE-X." in [event["message"] for event in asyncio.run(run())]


def test_the_end_is_asked_for_whatever_became_of_the_server(api: FakeApi) -> None:
    heard: list[str] = []

    async def run() -> None:
        made = spawner(post_stop_hook=lambda spawner: heard.append(spawner.user.name))
        await made.start()
        # A hub that was started anew knows nothing of the spawn.
        await spawner(post_stop_hook=lambda spawner: heard.append(spawner.user.name)).run_post_stop_hook()

    asyncio.run(run())
    (body,) = api.bodies.values()
    assert body["spec"]["endRequested"] is True
    assert heard == ["alice"], "the site's own hook runs, too"


def test_an_end_that_cannot_be_asked_for_stops_nothing(api: FakeApi) -> None:
    heard: list[str] = []
    api.failure = ApiError(500, "away")

    async def run() -> None:
        await spawner(post_stop_hook=lambda _: heard.append("site")).run_post_stop_hook()

    asyncio.run(run())
    assert heard == ["site"]


def test_servers_of_one_user_are_apart(api: FakeApi) -> None:
    async def run() -> None:
        for name in ("", "second"):
            made = spawner()
            made.orm_spawner = SimpleNamespace(name=name, server=None)
            await made.start()

    asyncio.run(run())
    keys = {body["metadata"]["labels"][SERVER_LABEL] for body in api.bodies.values()}
    assert len(keys) == 2
    assert not api.patches


def test_a_cancelled_wait_makes_no_pod_and_the_stop_ends_it(api: FakeApi) -> None:
    api.on_read = lambda _: None

    async def run() -> Any:
        made = spawner()
        start = asyncio.ensure_future(made.start())
        await asyncio.sleep(0.05)
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start
        await made.run_post_stop_hook()
        return made

    made = asyncio.run(run())
    assert not hasattr(made, "pod")
    assert [body["spec"].get("endRequested") for body in api.bodies.values()] == [True]


@pytest.mark.usefixtures("api")
def test_the_wait_leaves_time_for_the_pod() -> None:
    async def run() -> list[float]:
        return [spawner(start_timeout=seconds)._settings().wait for seconds in (60, 300)]

    assert asyncio.run(run()) == [40, 120]


@pytest.mark.usefixtures("api")
def test_both_forms_are_one() -> None:
    profiles = [{"display_name": "Small", "slug": "small"}]

    async def run() -> tuple[str, str, dict[str, Any]]:
        with_profiles = spawner(profile_list=profiles, vrse_destinations=["SITE-B"])
        posted = {"profile": ["small"], "vrse-use": ["1"], "vrse-inputs": ["a:b"], "vrse-destination": ["SITE-B"]}
        with pytest.raises(RefusedError, match="is no DID"):
            with_profiles.options_from_form({**posted, "vrse-inputs": ["ab"]})
        assert ">ab</textarea>" in await with_profiles.get_options_form(), "what was refused stays to be corrected"
        return (
            await spawner().get_options_form(),
            await with_profiles.get_options_form(),
            with_profiles.options_from_form(posted),
        )

    alone, both, options = asyncio.run(run())
    assert "vrse-inputs" in alone
    assert both.index("vrse-inputs") < both.index("profile-item-small")
    assert options == {"profile": "small", "volatile_rse": {"inputs": ["a:b"], "destination": "SITE-B"}}


def test_an_account_may_be_a_function(api: FakeApi) -> None:
    async def run() -> None:
        await spawner(vrse_account=lambda spawner: f"{spawner.user.name[0]}lice2").start()

    asyncio.run(run())
    (body,) = api.bodies.values()
    assert body["spec"]["account"] == "alice2"


@pytest.mark.parametrize(("publish", "register"), [(False, "OnSessionEnd"), (True, "Continuous")])
def test_a_hub_may_let_programs_publish(api: FakeApi, publish: bool, register: str) -> None:  # noqa: FBT001
    asyncio.run(started(spawner(vrse_destinations=["SITE-B"], vrse_publish=publish)))
    (body,) = api.bodies.values()
    (output,) = VolatileRSESpec.model_validate(body["spec"]).outputs
    assert output.register_ == register


def test_seventy_that_wait_keep_nobody_who_wants_no_data(api: FakeApi) -> None:
    api.on_read = lambda _: None

    async def run() -> int:
        waiting = [asyncio.ensure_future(spawner().start()) for _ in range(70)]
        await asyncio.sleep(0.05)
        await asyncio.wait_for(spawner({}).start(), 5)
        pending = sum(not each.done() for each in waiting)
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        return pending

    assert asyncio.run(run()) == 70


@pytest.mark.parametrize("failing", ["account", "api"])
def test_whatever_fails_of_ours_the_server_starts(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, failing: str
) -> None:
    def fails(_: Any) -> str:
        raise KeyError(failing)

    if failing == "api":
        monkeypatch.setattr(hooks, "_cluster", fails)

    async def run() -> tuple[Any, list[dict[str, Any]], str]:
        made = spawner(**({"vrse_account": fails} if failing == "account" else {}))
        pod = await started(made)
        await made.run_post_stop_hook()
        return pod, await listened(made), await made.get_options_form()

    pod, events, form = asyncio.run(run())
    assert "volatilerse.io/session" not in pod["metadata"]["labels"]
    assert "ADMIN must act: see the hub's log" in events[0]["message"]
    assert "KeyError" in caplog.text
    assert "vrse-inputs" in form
    assert not api.bodies


@pytest.mark.usefixtures("api")
def test_an_account_that_cannot_be_had_refuses_no_form() -> None:
    def fails(_: Any) -> str:
        raise KeyError

    async def run() -> dict[str, Any]:
        made = spawner(vrse_account=fails, vrse_destinations=["SITE-B"])
        made.user.name = "Alice@cern.ch"
        posted: dict[str, Any] = made.options_from_form({"vrse-use": ["1"], "vrse-inputs": ["a:b"]})
        return posted

    assert asyncio.run(run()) == {"volatile_rse": {"inputs": ["a:b"]}}


@pytest.mark.usefixtures("api")
def test_an_injection_that_is_away_keeps_no_pod_from_being_made() -> None:
    bodies = yaml.safe_load_all((CHECKOUT / "manifests" / "injection-webhook.yaml").read_text())
    (asked,) = (body["webhooks"][0] for body in bodies if body["kind"] == "MutatingWebhookConfiguration")
    assert asked["failurePolicy"] == "Ignore"

    async def run() -> list[int]:
        return [spawner(**more).k8s_api_request_timeout for more in ({}, {"k8s_api_request_timeout": 20})]

    usual, own = asyncio.run(run())
    assert usual > 2 * asked["timeoutSeconds"], "a call that is given up before makes none"
    assert own == 20


def test_who_listens_to_a_second_spawn_hears_the_second(api: FakeApi) -> None:
    async def run() -> list[dict[str, Any]]:
        made = spawner()
        await made.start()
        second = made.start()
        heard = await listened(made)
        await second
        return heard

    heard = asyncio.run(run())
    assert list(api.bodies)[1] in heard[0]["message"]
    assert "The data are there" in heard[1]["message"], "the end of the first spawn ends no progress of the second"
