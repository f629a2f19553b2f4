"""The catalogue beside the cluster: a Rucio server with its database and cache, its daemons, and a stock client."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import requests

from testbed import containers, grid, pki, seed, trust
from testbed.grid import ALICE, BOB, OPERATOR
from testbed.layout import ALL_SITES, CHECKOUT, CLIENT, DAEMONS, DATABASE, MEMCACHED, PKI, RUCIO, SAMPLES, STATE
from testbed.progress import Log, step

__all__ = ["add_authority", "remove_authority", "up"]

_FOLDER = CHECKOUT / "testbed" / "images" / "rucio"
_STATE = STATE / "rucio"
_VOLUME = DATABASE
_POSTGRES = 5432
_EVERYTHING = "storage.read:/store storage.create:/store storage.modify:/store"
_TOKEN_LIFETIME = timedelta(days=20)
"""Of the tokens that stand in the environment of containers, which are made anew with it."""


def up() -> None:
    """Make sure that the catalogue runs, answers, and knows what the demo and the tests need of it."""
    image = containers.build("rucio", _FOLDER)
    passwords, tokens = _passwords(), _tokens()
    _configure(passwords)
    pki.server_certificate(RUCIO)
    with step("Rucio") as log:
        trust.ensure(image, log)
        _database(image, passwords, log)
        containers.ensure(MEMCACHED, image, [], "memcached", "-m", "64", log=log)
        _server(image, log)
        facts = grid.record(passwords, tokens)
        _daemons(image, tokens, log)
        _client(image, facts, log)
    with step("Rucio's accounts, scopes and RSEs"):
        seed.up(facts)


def add_authority(name: str, pem: str) -> None:
    """Let the daemons and the client of the running grid believe one more authority, for example the operator's."""
    with step(f"Authority {name}") as log:
        trust.add(name, pem, containers.build("rucio", _FOLDER), log)


def remove_authority(name: str) -> None:
    """Take back :func:`add_authority`."""
    with step(f"Authority {name} removed") as log:
        trust.remove(name, containers.build("rucio", _FOLDER), log)


def _passwords() -> Mapping[str, str]:
    path = _STATE / "passwords.json"
    if not path.exists():
        # A catalogue whose passwords are lost is of no use.
        containers.remove(CLIENT, DAEMONS, RUCIO, MEMCACHED, DATABASE, volumes=[_VOLUME])
        _private(path, {name: secrets.token_urlsafe(18) for name in ("database", "root", ALICE, BOB, OPERATOR)})
    found: Mapping[str, str] = json.loads(path.read_text())
    return found


def _tokens() -> Mapping[str, str]:
    """Give each account's token for the sites, the same one for half of its life."""
    path, hosts = _STATE / "tokens.json", list(ALL_SITES.values())
    if not path.exists() or pki.age(path) > _TOKEN_LIFETIME / 2 or not _are_for(path, hosts):
        names = (ALICE, BOB, OPERATOR)
        _private(path, {name: pki.token(name, hosts, _EVERYTHING, _TOKEN_LIFETIME) for name in names})
    found: Mapping[str, str] = json.loads(path.read_text())
    return found


def _are_for(path: Path, hosts: Sequence[str]) -> bool:
    """Tell whether tokens are for these sites: a testbed may have got another one since."""
    claims = json.loads(path.read_text())[OPERATOR].split(".")[1]
    found = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["aud"]
    return bool(found == [pki.audience(host) for host in hosts])


def _private(path: Path, content: Mapping[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(json.dumps(content))


def _configure(passwords: Mapping[str, str]) -> None:
    """Write the configuration of the server and of the daemons, which use no cache (it would delay them by minutes)."""
    url = f"postgresql+psycopg://rucio:{passwords['database']}@{DATABASE}/postgres"
    for part, cache in (("server", f"{MEMCACHED}:11211"), ("daemons", "127.0.0.1:1")):
        folder = _STATE / part
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "rucio.cfg").write_text(_CONFIGURATION.format(url=url, cache=cache, password=passwords["root"]))
        (folder / "alembic.ini").write_text(_ALEMBIC.format(url=url))


def _database(image: str, passwords: Mapping[str, str], log: Log) -> None:
    volume = f"{containers.volume(_VOLUME)}:/var/lib/catalogue"
    options = ["--user", "postgres", "--shm-size", "256m", "-v", volume, "-e", f"PASSWORD={passwords['database']}"]
    if containers.ensure(DATABASE, image, options, "sh", "/etc/catalogue/database.sh", log=log):
        # They hold connections to the one before.
        containers.remove(RUCIO, DAEMONS)
    ready = ["docker", "exec", DATABASE, "/opt/postgresql/pg_isready", "-q", "-h", DATABASE, "-p", str(_POSTGRES)]
    containers.settle(DATABASE, log, lambda: log.run(*ready))


def _server(image: str, log: Log) -> None:
    options = [
        *_mounted("server"), "-p", "127.0.0.1::8443",
        "-v", f"{PKI / f'{RUCIO}.pem'}:/tls/host.pem:ro", "-v", f"{PKI / f'{RUCIO}.key'}:/tls/host.key:ro",
    ]  # fmt: skip
    containers.ensure(RUCIO, image, options, "/opt/server/bin/python", "/etc/catalogue/serve.py", log=log)
    # The port is asked for each time: it changes when the container starts again.
    url = "https://localhost:{port}/ping"
    containers.settle(
        RUCIO,
        log,
        lambda: requests.get(
            url.format(port=containers.port(RUCIO, 8443)), verify=str(trust.BUNDLE), timeout=5
        ).raise_for_status(),
    )


def _daemons(image: str, tokens: Mapping[str, str], log: Log) -> None:
    options = [*_mounted("daemons"), *_believing(tokens[OPERATOR])]
    containers.ensure(DAEMONS, image, options, "/opt/server/bin/python", "/etc/catalogue/daemons.py", log=log)


def _client(image: str, facts: grid.Grid, log: Log) -> None:
    folder = _STATE / "client"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rucio.cfg").write_text(
        f"[client]\nrucio_host = {facts.inside}\nauth_host = {facts.inside}\nca_cert = /trust/bundle.pem\n"
        f"auth_type = userpass\naccount = {ALICE}\nusername = {ALICE}\npassword = {facts.passwords[ALICE]}\n"
    )
    SAMPLES.mkdir(parents=True, exist_ok=True)
    own = ["-v", f"{SAMPLES}:/samples:ro", "-e", "PATH=/opt/client/bin:/usr/bin:/bin"]
    options = [*_mounted("client"), *_believing(facts.tokens[ALICE]), *own]
    containers.ensure(CLIENT, image, options, "sleep", "infinity", log=log)


def _mounted(part: str) -> list[str]:
    mounts = [
        word for path in sorted((_STATE / part).iterdir()) for word in ("-v", f"{path}:/etc/rucio/{path.name}:ro")
    ]
    return ["--init", *mounts, "-e", "RUCIO_CONFIG=/etc/rucio/rucio.cfg"]


def _believing(token: str) -> list[str]:
    """Give a program of the grid its authorities and its token; gfal2 reads no token file."""
    return ["-v", f"{trust.TRUST}:/trust:ro", "-e", "X509_CERT_DIR=/trust/certificates", "-e", f"BEARER_TOKEN={token}"]


_CONFIGURATION = """\
[common]
logdir = /tmp
loglevel = INFO
mailtemplatedir = /opt/server/rucio/etc/mail_templates
[database]
default = {url}
schema = dev
[bootstrap]
userpass_identity = root
userpass_pwd = {password}
userpass_email = root@testbed.invalid
[cache]
url = {cache}
[policy]
package = testbed_policy
lfn2pfn_algorithm_default = hash
[alembic]
cfg = /etc/rucio/alembic.ini
"""

_ALEMBIC = """\
[alembic]
script_location = rucio:db/sqla/migrate_repo
sqlalchemy.url = {url}
version_table_schema = dev
[loggers]
keys = root
[handlers]
keys = console
[formatters]
keys = plain
[logger_root]
level = WARN
handlers = console
[handler_console]
class = StreamHandler
args = (sys.stderr,)
formatter = plain
[formatter_plain]
format = %(levelname)s %(message)s
"""
