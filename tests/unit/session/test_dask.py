"""Each worker of a Dask cluster has the session, whether it is mounted there or not."""

from __future__ import annotations

import os
import pickle
import stat
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, LocalCluster

from tests.unit.session.small_buffer import INPUTS, OUTBOX, Objects, SmallBuffer
from volatile_rse import session as vrse
from volatile_rse.session import carried, sessions
from volatile_rse.session.dask import SessionPlugin
from volatile_rse.session.mounted import mounted

ROOT = Path(__file__).parents[3]


@pytest.fixture
def elsewhere(objects: Objects, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> carried.Carried:
    """Give what is carried to a process that has nothing mounted, and a folder of its own for what is temporary."""
    packed: carried.Carried = pickle.loads(pickle.dumps(carried.pack(mounted())))  # noqa: S301 - our own
    assert objects
    monkeypatch.setenv("VRSE_SECRET", str(tmp_path / "none"))
    monkeypatch.setenv("VRSE_CONFIG", str(tmp_path / "none"))
    (tmp_path / "worker").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "worker"))
    monkeypatch.setattr(sessions, "_KNOWN", {})
    return packed


def test_a_process_without_mounts_reads_and_writes(elsewhere: carried.Carried, small_buffer: SmallBuffer) -> None:
    with pytest.raises(vrse.SessionError):
        vrse.current()
    carried.unpack(elsewhere)
    s = vrse.current()
    assert {name: len(entry.files) for name, entry in s.inputs.items()} == {name: len(INPUTS[name]) for name in INPUTS}
    (url,) = s.files("other", https=True)
    assert url.startswith(small_buffer.url)
    small_buffer.files[f"{OUTBOX}/a"] = b"1"
    s.publish("a")
    token = Path(os.environ["BEARER_TOKEN_FILE"])
    assert token.read_text() == small_buffer.token
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert "2 of 2 files staged" in repr(s)


def test_a_renewed_one_replaces_it(
    elsewhere: carried.Carried, objects: Objects, small_buffer: SmallBuffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    carried.unpack(elsewhere)
    s = vrse.current()
    monkeypatch.setenv("VRSE_SECRET", str(objects.secret))
    monkeypatch.setenv("VRSE_CONFIG", str(objects.config))
    objects.renew(timedelta(hours=5))
    renewed = carried.pack(mounted())
    made = {name: os.environ[name] for name in ("VRSE_SECRET", "VRSE_CONFIG")}
    assert made
    monkeypatch.setenv("VRSE_SECRET", str(s.token_file.parent))
    monkeypatch.setenv("VRSE_CONFIG", str(s.token_file.parent.parent / "config"))
    carried.unpack(renewed)
    assert vrse.current().token_file.read_text() == small_buffer.token


def test_what_is_mounted_is_preferred(objects: Objects) -> None:
    packed = carried.pack(mounted())
    carried.unpack(packed)
    assert os.environ["VRSE_SECRET"] == str(objects.secret)


def test_a_folder_without_room_is_told(elsewhere: carried.Carried, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(carried, "put", full)
    with pytest.raises(vrse.SessionError, match="No space left on device"):
        carried.unpack(elsewhere)


def test_a_client_outside_the_cluster_gives_the_public_address(
    objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    public = {"VRSE_PUBLIC_ROOT_URL": "root://node:31094", "VRSE_PUBLIC_DAVS_URL": "https://node:30443"}
    objects.write_config(changed=public)
    monkeypatch.setenv("VRSE_ADDRESS", "public")
    packed = carried.pack(mounted())
    assert packed.config["VRSE_DAVS_URL"] == public["VRSE_PUBLIC_DAVS_URL"]
    assert packed.config["VRSE_ROOT_URL"] == public["VRSE_PUBLIC_ROOT_URL"]


@pytest.mark.usefixtures("objects")
def test_the_token_is_not_shown(small_buffer: SmallBuffer) -> None:
    packed = carried.pack(mounted())
    assert small_buffer.token not in repr(packed)
    assert "VRSE-ABCDEFGHIJ" in repr(packed)


def seen() -> tuple[list[str], str]:
    """Tell what a task finds."""
    found = vrse.current()
    return found.files("dimuon", https=True), Path(os.environ["BEARER_TOKEN_FILE"]).read_text()


@pytest.mark.usefixtures("objects")
def test_workers_of_other_processes_have_it_and_so_have_later_ones(small_buffer: SmallBuffer, tmp_path: Path) -> None:
    options: dict[str, Any] = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": None}
    environment = {"VRSE_SECRET": "/none", "VRSE_CONFIG": "/none", "TMPDIR": str(tmp_path)}
    environment["PYTHONPATH"] = f"{ROOT / 'operator'}:{ROOT}"
    with (
        LocalCluster(  # type: ignore[no-untyped-call]
            processes=True, env=environment, local_directory=str(tmp_path), **options
        ) as cluster,
        Client(cluster) as client,  # type: ignore[no-untyped-call]
    ):
        client.register_plugin(SessionPlugin())
        expected = (vrse.current().files("dimuon", https=True), small_buffer.token)
        assert client.submit(seen, pure=False).result(30) == expected
        cluster.scale(2)
        client.wait_for_workers(2, timeout=30)
        assert list(client.run(seen).values()) == [expected] * 2
