"""What the testbed starts again keeps its data; what is described anew is made anew."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed import containers, sites
from testbed.layout import LABEL
from testbed.progress import Log, StepError

pytestmark = pytest.mark.grid


@pytest.fixture(scope="module")
def image() -> str:
    return sites.image()


@pytest.fixture
def name() -> Iterator[str]:
    name = f"vrse-test-{uuid.uuid4().hex[:8]}"
    yield name
    containers.remove(name, volumes=[name])


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "log")


def inside(name: str, script: str) -> str:
    argv = ["docker", "exec", name, "sh", "-euc", script]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def start(image: str, name: str, log: Log, *further: str) -> bool:
    options = ["--init", "--entrypoint", "sleep", "-v", f"{containers.volume(name)}:/data", *further]
    return containers.ensure(name, image, options, "infinity", log=log)


def test_a_stopped_container_starts_again_and_a_changed_one_is_replaced(image: str, name: str, log: Log) -> None:
    assert start(image, name, log)
    inside(name, "echo kept >/data/file; echo lost >/tmp/file")
    assert not start(image, name, log)

    subprocess.run(["docker", "stop", "-t", "1", name], capture_output=True, check=True)
    assert start(image, name, log)
    assert inside(name, "cat /data/file /tmp/file") == "kept\nlost\n"

    assert start(image, name, log, "-e", "NEW=1")
    assert inside(name, "cat /data/file; test ! -e /tmp/file; echo $NEW") == "kept\n1\n"


def test_a_replaced_file_replaces_the_container(image: str, name: str, log: Log, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("old")
    mount = ["-v", f"{key}:/key:ro"]
    assert start(image, name, log, *mount)
    key.unlink()
    key.write_text("new")
    assert start(image, name, log, *mount)
    assert inside(name, "cat /key") == "new"


def test_all_that_is_made_carries_the_label_by_which_it_is_removed(image: str, name: str, log: Log) -> None:
    start(image, name, log)
    for kind in ("container", "volume"):
        template = "{{.Names}}" if kind == "container" else "{{.Name}}"
        argv = ["docker", kind, "ls", "--filter", f"label={LABEL}", "--format", template]
        assert name in subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()


def test_a_container_that_ends_is_reported_at_once_with_its_log(image: str, name: str, log: Log) -> None:
    containers.ensure(name, image, ["--entrypoint", "sh"], "-c", "echo why >&2; exit 3", log=log)

    def probe() -> None:
        message = "no answer"
        raise OSError(message)

    with pytest.raises(StepError, match=f"{name} has ended: no answer"):
        containers.settle(name, log, probe, seconds=30)
    assert "why" in log.path.read_text()
