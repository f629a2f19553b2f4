"""What reads by fsspec gets token and authority for the buffer, and for nobody else."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import uproot

from tests.unit.session.small_buffer import FILES, INPUTS, Objects, SmallBuffer
from volatile_rse import session as vrse
from volatile_rse.builders.session import store_path
from volatile_rse.session.access import access
from volatile_rse.session.fsspec import BufferFileSystem

PACKED = """
import sys
# Of the distribution that a session has, not of this source tree.
sys.path = [path for path in sys.path if not path.endswith("/operator")]
"""
BARE = """
import uproot

for url in sys.argv[1:]:
    print(uproot.open(f"{url}:Events").num_entries)
"""


@pytest.fixture
def other(tmp_path: Path) -> Iterator[SmallBuffer]:
    """Give a server that is not the session's."""
    (tmp_path / "other").mkdir()
    made = SmallBuffer(tmp_path / "other")
    yield made
    made.close()


def fresh() -> BufferFileSystem:
    return BufferFileSystem(skip_instance_cache=True)


@pytest.mark.usefixtures("objects")
@pytest.mark.parametrize("first", ["", "import volatile_rse.session as vrse; vrse.current()"])
def test_a_bare_url_is_opened_by_every_process(
    small_buffer: SmallBuffer, wheel: Path, tmp_path: Path, first: str
) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "lib")
    with uproot.recreate(tmp_path / "some.root") as made:
        made["Events"] = {"run": [1, 2, 3]}
    small_buffer.files[store_path(FILES[0].did)] = (tmp_path / "some.root").read_bytes()
    url = f"{small_buffer.url}{store_path(FILES[0].did)}"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "lib"), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-W", "error", "-c", PACKED + first + BARE, url]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr


def test_each_request_brings_the_token_of_now(objects: Objects, small_buffer: SmallBuffer) -> None:
    system = fresh()
    (url,) = vrse.current().files("other", https=True)
    assert system.cat(url) == b"x" * 7
    objects.renew(timedelta(hours=8))
    assert system.cat_file(url, start=2, end=5) == b"xxx"
    with system.open(url, block_size=3) as file:
        assert file.read(4) == b"xxxx"
        objects.renew(timedelta(hours=7))
        file.seek(0)
        assert file.read() == b"x" * 7
    assert system.info(url)["size"] == INPUTS["other"][0].bytes
    assert small_buffer.asked


@pytest.mark.usefixtures("objects")
def test_others_get_no_token(other: SmallBuffer, tmp_path: Path) -> None:
    vrse.current()
    other.files["/public"] = b"public"
    (tmp_path / "other.pem").write_text(other.authority.bundle())
    assert access(f"{other.url}/public") is None
    for url in ("http://localhost/", "root://h//a", "https://[", "https://h:port/", "", "https:///a"):
        assert access(url) is None
    # Whoever trusts it themselves is answered as without the plug-in: it wants a token, and gets none.
    context = ssl.create_default_context(cafile=str(tmp_path / "other.pem"))
    with pytest.raises(Exception, match="403"):
        BufferFileSystem(skip_instance_cache=True, ssl=context).cat(f"{other.url}/public")
    assert other.asked


@pytest.mark.usefixtures("objects")
def test_nobody_with_another_certificate_gets_the_token(objects: Objects, other: SmallBuffer) -> None:
    """The address is the buffer's, and somebody else answers there."""
    objects.write_config(changed={"VRSE_DAVS_URL": other.url})
    with pytest.raises(Exception, match="CERTIFICATE_VERIFY_FAILED"):
        fresh().cat(f"{other.url}/a")
    assert not other.asked


@pytest.mark.usefixtures("objects")
def test_what_is_said_already_stays() -> None:
    (url,) = vrse.current().files("other", https=True)
    with pytest.raises(Exception, match="403"):
        BufferFileSystem(skip_instance_cache=True, headers={"AUTHORIZATION": "Bearer mine"}).cat(url)
    assert BufferFileSystem(skip_instance_cache=True, headers={"X-Mine": "1"}).cat(url) == b"x" * 7


def test_a_session_that_is_over_is_told(objects: Objects) -> None:
    (url,) = vrse.current().files("other", https=True)
    for folder in (objects.secret, objects.config):
        (folder / "..data").unlink()
    with pytest.raises(vrse.SessionError, match="it is over"):
        fresh().cat(url)
    assert access("https://elsewhere/a") is None


def test_the_public_address_is_the_buffers_too(objects: Objects) -> None:
    objects.write_config(changed={"VRSE_PUBLIC_DAVS_URL": "https://Node.example.org:30443"})
    vrse.current()
    assert access("https://node.example.org:30443/a") is not None
    assert access("https://node.example.org/a") is None


def test_connections_are_used_again(objects: Objects) -> None:
    (url,) = vrse.current().files("other", https=True)
    first, second = access(url), access(url)
    assert first is not None
    assert second is not None
    assert first.context is second.context
    objects.write_config()
    third = access(url)
    assert third is not None
    assert third.context is not first.context
