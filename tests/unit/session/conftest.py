from __future__ import annotations

import os
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.session.small_buffer import Objects, SmallBuffer
from volatile_rse.session import prepared, sessions

ROOT = Path(__file__).parents[3]
OURS = (
    "BEARER_TOKEN", "BEARER_TOKEN_FILE", "X509_CERT_DIR", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
    "VRSE_ROOT_URL", "VRSE_DAVS_URL", "VRSE_OUTBOX", "VRSE_PUBLISH", "VRSE_RSE", "VRSE_INPUTS_URL", "VRSE_LEASE",
    "VRSE_ADDRESS", "VRSE_STATUS",
)  # fmt: skip


@pytest.fixture
def small_buffer(tmp_path: Path) -> Iterator[SmallBuffer]:
    made = SmallBuffer(tmp_path)
    yield made
    made.close()


@pytest.fixture
def nothing_mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder where objects may be mounted later, to a process that knows of no session."""
    for name in OURS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VRSE_SECRET", str(tmp_path / "vrse-secret"))
    monkeypatch.setenv("VRSE_CONFIG", str(tmp_path / "vrse"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(sessions, "_KNOWN", {})
    monkeypatch.setattr(prepared, "_SET", {})
    return tmp_path


@pytest.fixture
def objects(nothing_mounted: Path, small_buffer: SmallBuffer) -> Iterator[Objects]:
    yield Objects(nothing_mounted, small_buffer)
    # What was set by the code itself; monkeypatch restores the rest.
    for name in OURS:
        os.environ.pop(name, None)


def build(project: Path, folder: Path) -> Path:
    """Build the wheel of a project, as `make wheels` does."""
    hatchling = str(Path(sysconfig.get_path("scripts")) / "hatchling")
    subprocess.run([hatchling, "build", "-t", "wheel", "-d", folder], check=True, cwd=project, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the wheel of what a session imports."""
    return build(ROOT / "distributions" / "session", tmp_path_factory.mktemp("session"))


@pytest.fixture(scope="session")
def operators(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the operator's wheel."""
    return build(ROOT, tmp_path_factory.mktemp("operator"))
