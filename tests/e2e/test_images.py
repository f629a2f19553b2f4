"""The buffer's image is built as docs/install.md and docs/operations.md say, wherever its XRootD comes from."""

from __future__ import annotations

import re
import subprocess
import uuid
from collections.abc import Iterator

import pytest

from testbed import xrootd
from testbed.layout import CHECKOUT
from tests.e2e.flows import docker

pytestmark = [pytest.mark.grid, pytest.mark.slow]

PAGE = (CHECKOUT / "docs" / "operations.md").read_text() + (CHECKOUT / "docs" / "install.md").read_text()


@pytest.fixture
def name() -> Iterator[str]:
    made = f"vrse-test-image-{uuid.uuid4().hex[:8]}"
    yield made
    subprocess.run(["docker", "rmi", made], capture_output=True, check=False)


def documented(argument: str) -> str:
    """Give the command that builds a buffer with these arguments."""
    [found] = re.findall(rf"^ *(docker build {argument}-t \$REGISTRY/buffer:0.1.0 -f \S+ \S+)$", PAGE, re.MULTILINE)
    return str(found)


def build(command: str) -> None:
    argv = ["docker", "build", "--network", "host", *command.split()[2:]]
    done = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr


def built(command: str, name: str) -> str:
    """Build it so; give the version of XRootD in it."""
    build(command.replace("$REGISTRY/buffer:0.1.0", name))
    return docker("run", "--rm", name, "sh", "-c", "xrootd -v 2>&1")


FAST = "import zlib; from volatile_rse.agent import checksum; print(checksum._adler32 is not zlib.adler32)"


def test_what_was_compiled_before_is_used(name: str) -> None:
    command = documented(r"--build-arg XROOTD=\$REGISTRY/xrootd ").replace("$REGISTRY/xrootd", xrootd.source())
    assert built(command, name) == "v5.9.9"
    assert docker("run", "--rm", name, "python3", "-c", FAST) == "True", "checksums take three times as long"


def test_debian_s_package_is_taken_where_it_is_wanted(name: str) -> None:
    assert built(documented("--build-arg XROOTD=debian "), name).startswith("v5.8.")


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_xrootd_is_compiled_by_an_ordinary_build_and_for_an_image_of_its_own(name: str) -> None:
    [apart] = re.findall(r"^ *(docker build --target source -t \$REGISTRY/xrootd -f \S+ \S+)$", PAGE, re.MULTILINE)
    build(apart.replace("$REGISTRY/xrootd", name))
    assert built(documented(""), name) == "v5.9.9"
