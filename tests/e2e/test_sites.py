"""The permanent sites hold bytes, know their checksums, and obey tokens."""

from __future__ import annotations

import socket
import ssl
import struct
import subprocess
import uuid
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
import requests

from testbed import pki, sites
from testbed.layout import CLIENT, SITES
from tests.e2e.flows import docker, headers

pytestmark = pytest.mark.grid

READ, WRITE = "storage.read:/store", "storage.read:/store storage.create:/store storage.modify:/store"


def call(method: str, host: str, path: str, token: str | None, **arguments: object) -> requests.Response:
    url = f"https://localhost:{sites.davs_port(host)}{path}"
    sent = headers(method, token)
    return requests.request(method, url, headers=sent, verify=str(pki.CA), timeout=30, **arguments)  # type: ignore[arg-type]


@pytest.fixture
def path() -> str:
    return f"/store/user/alice/{uuid.uuid4().hex}/file.root"


@pytest.mark.parametrize("host", SITES.values())
def test_what_is_written_is_read_back_with_its_checksum(host: str, path: str) -> None:
    token, body = pki.token("alice", host, WRITE), uuid.uuid4().bytes * 5000
    assert call("PUT", host, path, token, data=body).status_code == 201
    answer = call("GET", host, path, token)
    assert answer.content == body
    digest = call("HEAD", host, path, token).headers["Digest"]
    assert digest == f"adler32={zlib.adler32(body):08x}"


def test_a_reader_cannot_write_nor_delete(path: str) -> None:
    host = SITES["SITE-A"]
    writer, reader = pki.token("alice", host, WRITE), pki.token("alice", host, READ)
    assert call("PUT", host, path, reader, data=b"x").status_code == 403
    assert call("PUT", host, path, writer, data=b"x").status_code == 201
    assert call("DELETE", host, path, reader).status_code == 403
    assert call("GET", host, path, reader).content == b"x"


def test_a_token_of_another_site_or_none_opens_nothing(path: str) -> None:
    host, other = SITES["SITE-A"], SITES["SITE-B"]
    assert call("PUT", host, path, pki.token("alice", host, WRITE), data=b"x").status_code == 201
    assert call("GET", host, path, pki.token("alice", other, WRITE)).status_code == 403
    assert call("GET", host, path, None).status_code == 403


def test_one_token_opens_every_site_that_it_names(path: str) -> None:
    token = pki.token("alice", list(SITES.values()), WRITE)
    for host in SITES.values():
        assert call("PUT", host, path, token, data=b"x").status_code == 201


@pytest.mark.parametrize("host", SITES.values())
def test_xrootd_writes_overwrites_and_reads_the_same_files(host: str, path: str) -> None:
    url = f"root://{host}:1094/{path}"
    for letter in "ab":
        client(f"yes {letter} | head -c 70000 >/tmp/site.bin; xrdcp -f -s /tmp/site.bin {url}")
    assert client(f"xrdcp -s {url} -")[:2] == "b\n"
    checksum = client(f"xrdfs {host} query checksum {path}").split()
    body = call("GET", host, path, pki.token("alice", host, READ)).content
    assert checksum == ["adler32", f"{zlib.adler32(body):08x}"]


def test_xrootd_without_a_token_is_refused() -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        client(f"env -u BEARER_TOKEN xrdfs {SITES['SITE-A']} ls /store")
    assert "Auth failed" in caught.value.stderr


@pytest.mark.parametrize("host", SITES.values())
def test_a_site_sees_no_secret_but_its_own(host: str) -> None:
    listed = subprocess.run(["docker", "exec", host, "ls", "/pki"], capture_output=True, text=True, check=True).stdout
    assert set(listed.split()) == {"ca.pem", "jwks.json", f"{host}.pem", f"{host}.key"}


def test_a_site_answers_many_questions_for_digests_at_once_and_outlives_them() -> None:
    """Nothing starts it again. XRootD 5.8.1 breaks some answers off, and others lack the digest."""
    host = SITES["SITE-A"]
    folder, token, began = f"/store/user/alice/{uuid.uuid4().hex}", pki.token("alice", host, WRITE), started(host)
    bodies = {f"{folder}/{number}": uuid.uuid4().bytes * 1000 for number in range(60)}
    with ThreadPoolExecutor(30) as pool:
        stored = pool.map(lambda path: call("PUT", host, path, token, data=bodies[path]).status_code, bodies)
        assert set(stored) == {201}
        asked = [(method, path) for path in bodies for method in ("GET", "HEAD", "GET")]
        answers = list(pool.map(lambda pair: call(pair[0], host, pair[1], token), asked))
    right = {path: f"adler32={zlib.adler32(body):08x}" for path, body in bodies.items()}
    given = zip(asked, answers, strict=True)
    found = [
        (method, answer.status_code, answer.headers.get("Digest") == right[path]) for (method, path), answer in given
    ]
    # XRootD 5.9.9 answers one HEAD in a thousand with 400 where many come at once: an agent asks by other means then.
    assert set(found) <= {("GET", 200, True), ("HEAD", 200, True), ("HEAD", 400, False)}
    assert found.count(("HEAD", 400, False)) <= 3
    assert started(host) == began


def test_a_site_outlives_clients_that_hang_up(path: str) -> None:
    """Nothing starts it again."""
    host = SITES["SITE-A"]
    token, began = pki.token("alice", host, WRITE), started(host)
    assert call("PUT", host, path, token, data=bytes(5_000_000)).status_code == 201
    context = ssl.create_default_context(cafile=str(pki.CA))
    ending = f" HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nWant-Digest: adler32\r\n"
    asked = [
        f"GET {path}{ending}\r\n",
        f"HEAD {path}{ending}\r\n",
        f"PUT {path}.torn{ending}Content-Length: 1000\r\n\r\n",
    ]

    def hang_up(number: int) -> None:
        with socket.create_connection(("localhost", sites.davs_port(host)), timeout=30) as plain:
            line = context.wrap_socket(plain, server_hostname="localhost")
            line.sendall(asked[number % 3].encode())
            if number % 3 < 2 and number % 2:
                # Who waits for a digest waits behind those who are gone, and may have enough of it.
                line.settimeout(5)
                with suppress(TimeoutError):
                    line.recv(1000)
            # Without a word of goodbye.
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            line.close()

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(hang_up, range(300)))
    # Without a question for the digest: it would wait behind those who are gone.
    bearer = {"Authorization": f"Bearer {token}"}
    url = f"https://localhost:{sites.davs_port(host)}{path}"
    assert requests.get(url, headers=bearer, verify=str(pki.CA), timeout=30).content == bytes(5_000_000)
    assert started(host) == began


def started(host: str) -> str:
    """Tell since when a site runs."""
    return docker("inspect", "--format", "{{.State.Running}} {{.State.StartedAt}}", host)


def client(script: str) -> str:
    """Run a script in the stock client's container, as alice, with her token."""
    argv = ["docker", "exec", CLIENT, "sh", "-euc", script]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout
