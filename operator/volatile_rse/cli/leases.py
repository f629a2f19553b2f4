"""The command ``lease``: work outside the cluster holds a session, as a pod with its label does."""

from __future__ import annotations

import base64
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import click
from urllib3 import PoolManager, Timeout
from urllib3.exceptions import HTTPError
from urllib3.util import create_urllib3_context

from volatile_rse.api.conditions import Actor
from volatile_rse.cli import program
from volatile_rse.cli.errors import CommandError, Exit
from volatile_rse.cli.server import Object, Server, Unreadable

__all__ = ["lease"]

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_LEASE_ID = program.Text("id", _ID.fullmatch, "is no id of a lease: letters, digits, '.', '_' and '-', at most 63")
_ROOT, _URL, _FOLDER = "VRSE_PUBLIC_ROOT_URL", "VRSE_PUBLIC_DAVS_URL", "VRSE_LEASE"
_TOLD = (_ROOT, _URL, _FOLDER, "VRSE_OUTBOX", "VRSE_PUBLISH", "VRSE_STATUS", "VRSE_RSE")
_INSIDE = "VRSE_ROOT_URL"
"""The address in the cluster, which the list of inputs has."""
_LIST, _LONG_LIST = "inputs.jsonl", "VRSE_INPUTS_URL"
"""The list of inputs, and where it is on the buffer, however long."""
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")
"""The name of a file that a ConfigMap's key may have here."""
_HASHED = re.compile(r"[0-9a-f]{8}\.\d+")
_FORMER = re.compile(rf"VRSE_[A-Z0-9_]+|{re.escape(_LIST)}|{_HASHED.pattern}")
"""The name of a file that may be of a session and is not of every one."""
_SECONDS = 30.0
_OK = range(200, 300)
_REFUSED, _ABSENT = {401, 403}, 404


@dataclass(frozen=True, slots=True)
class _Session:
    """What the session of a VolatileRSE was given."""

    name: str
    settings: Mapping[str, str]
    token: str


@click.group()
def lease() -> None:
    """Hold a session for work outside the cluster, such as a batch job that waits in a queue."""


@lease.command()
@program.the_name
@click.option("--id", "id_", type=_LEASE_ID, default="lease", show_default=True, help="Name of the lease.")
@click.option("--for", "span", type=program.DURATION, default="24h", show_default=True, help="How long, at most 7d.")
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), help="Where token and addresses are put.")
@click.option("-o", "--output", "form", type=click.Choice(["json", "yaml"]), help="An object with the environment.")
@program.on_cluster
def take(  # noqa: PLR0913 (an option each)
    server: Server, /, name: str, *, id_: str, span: str, folder: Path | None, form: str | None
) -> int:
    """Take a lease, write token and addresses into a folder, and print what a job's environment needs.

    eval "$(vrse lease take run --for 24h)" sets it in this shell: the public addresses as VRSE_ROOT_URL and
    VRSE_DAVS_URL, the list of inputs with them (VRSE_INPUTS), the certificates to trust (VRSE_CA_BUNDLE,
    X509_CERT_DIR), the token's file. By default the folder is one of the home directory, which batch jobs see.
    """
    session = _session(server, name)
    _put(session, id_, span)
    where = _folder(server, name) if folder is None else folder.absolute()
    inputs = _inputs(session)
    _write(where, session, inputs)
    environment = dict(_environment(where, session, has_inputs=inputs is not None))
    program.say(sys.stderr, f"Lease {id_} holds {name} for {span}: `vrse lease release {name} --id {id_}` ends it.")
    if form is not None:
        program.write({"lease": id_, "for": span, "folder": str(where), "environment": environment}, form)
    else:
        sys.stdout.write("".join(f"export {key}={shlex.quote(value)}\n" for key, value in environment.items()))
    return Exit.DONE


@lease.command()
@program.the_name
@click.option("--id", "id_", type=_LEASE_ID, default="lease", show_default=True, help="Name of the lease.")
@click.option("--for", "span", type=program.DURATION, default="24h", show_default=True, help="How long from now.")
@program.on_cluster
def renew(server: Server, name: str, id_: str, span: str) -> int:
    """Let a lease hold for so long from now."""
    _put(_session(server, name), id_, span)
    program.say(sys.stdout, f"Lease {id_} holds {name} for {span}.")
    return Exit.DONE


@lease.command()
@program.the_name
@click.option("--id", "id_", type=_LEASE_ID, default="lease", show_default=True, help="Name of the lease.")
@program.on_cluster
def release(server: Server, name: str, id_: str) -> int:
    """End a lease: without another one and without a pod the session ends after its endGrace."""
    session = _session(server, name)
    status, _ = _ask(session, "DELETE", _path(session, id_))
    said = "There is no lease" if status == _ABSENT else "Released is lease"
    program.say(sys.stdout, f"{said} {id_} of {name}.")
    return Exit.DONE


def _session(server: Server, name: str) -> _Session:
    """Read what a session was given."""
    server.get(name)
    config, secret = (_given(server, name, kind) for kind in ("ConfigMap", "Secret"))
    settings = {key: str(value) for key, value in (config.get("data") or {}).items()}
    if missing := [key for key in (_ROOT, _URL, _FOLDER, _INSIDE, "ca.crt") if not settings.get(key)]:
        what = (
            f"ConfigMap {server.namespace}/{name}-vrse has no {missing[0]}: its session began before there were leases."
        )
        raise CommandError(what, Actor.USER, "hold it by a pod, or create another VolatileRSE.")
    try:
        token = base64.b64decode((secret.get("data") or {}).get("token", ""), validate=True).decode("ascii").strip()
    except ValueError:
        token = ""
    if not token:
        what = f"Secret {server.namespace}/{name}-vrse has no token."
        raise CommandError(what, Actor.USER, "repeat the command: the operator makes it anew.", Exit.UNANSWERED)
    return _Session(name, settings, token)


def _given(server: Server, name: str, kind: str) -> Object:
    what = f"{kind} {server.namespace}/{name}-vrse"
    path = f"/api/v1/namespaces/{quote(server.namespace)}/{kind.lower()}s/{quote(name)}-vrse"
    found = server.look(path, what)
    if isinstance(found, Unreadable):
        said = f"You may not read {what}, which has the session's token."
        raise CommandError(said, Actor.ADMIN, "bind the ClusterRole edit to this user in the namespace.")
    if found is None:
        said = f"There is no {what}: the session has not begun, or is over."
        raise CommandError(said, Actor.USER, f"see `vrse status {name}`, and `vrse wait {name} --for usable`.")
    return found


def _path(session: _Session, id_: str) -> str:
    return f"{session.settings[_FOLDER]}/{quote(id_)}"


def _put(session: _Session, id_: str, span: str) -> None:
    status, _ = _ask(session, "PUT", _path(session, id_), span)
    if status == _ABSENT:
        what = f"The buffer of {session.name} has no folder for leases."
        raise CommandError(what, Actor.USER, "hold it by a pod, or create another VolatileRSE.")


def _inputs(session: _Session) -> str | None:
    """Give the list of inputs with the public address; None: the session has none."""
    text = session.settings.get(_LIST)
    if text is None:
        if (url := session.settings.get(_LONG_LIST)) is None:
            return None
        path = url.partition("://")[2].partition("/")[2]
        status, data = _ask(session, "GET", f"/{path.lstrip('/')}")
        if status == _ABSENT:
            what = f"The buffer of {session.name} has no list of inputs: it was staged anew, or its volume was lost."
            raise CommandError(what, Actor.USER, f"see `vrse status {session.name}`, and repeat the command.")
        text = data.decode(errors="replace")
    return text.replace(f'"{session.settings[_INSIDE]}/', f'"{session.settings[_ROOT]}/')


def _ask(session: _Session, method: str, path: str, body: str | None = None) -> tuple[int, bytes]:
    """Ask the buffer itself; give status and body of its answer."""
    url = f"{session.settings[_URL]}{path}"
    try:
        context = create_urllib3_context()
        # Nobody else's authority counts for where a token goes.
        context.load_verify_locations(cadata=session.settings["ca.crt"])
        with PoolManager(ssl_context=context, retries=False, timeout=Timeout(total=_SECONDS)) as pool:
            headers = {"Authorization": f"Bearer {session.token}"}
            answer = pool.request(method, url, body=body, headers=headers, redirect=False)
    except (HTTPError, OSError, ValueError) as error:
        what = f"{method} {url} got no answer: {' '.join(str(error).split())}."
        action = "see that this machine reaches the buffer's public address. ADMIN: `vrse doctor` tries the way to it."
        raise CommandError(what, Actor.USER, action, Exit.UNANSWERED) from error
    if answer.status in _REFUSED:
        what = f"The buffer of {session.name} refuses {method} {path}: its session is over."
        raise CommandError(what, Actor.USER, "create another VolatileRSE.", Exit.NEVER)
    if answer.status not in _OK and answer.status != _ABSENT:
        what = f"{method} {url} gave {answer.status}."
        raise CommandError(what, Actor.USER, "repeat the command.", Exit.UNANSWERED)
    return int(answer.status), bytes(answer.data)


def _folder(server: Server, name: str) -> Path:
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "volatile-rse" / server.namespace / name


def _write(where: Path, session: _Session, inputs: str | None) -> None:
    """Write what the session was given as files, where nobody else reads the token; what is there of another goes."""
    settings = {key: text for key, text in session.settings.items() if _FILE.fullmatch(key)}
    state = {
        where / "config": settings,
        where / "authorities": {key: text for key, text in settings.items() if _HASHED.fullmatch(key)},
        # The header is for curl, which would show the token to whoever lists processes if it were told it in a word.
        where / "secret": {"token": session.token, "header": f"Authorization: Bearer {session.token}\n"},
        # The list comes last: it is made anew by a job to which it looks older than where it is on the buffer.
        where: {} if inputs is None else {_LIST: inputs},
    }
    try:
        for folder in reversed(state):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Clients of XRootD refuse authorities where others may write.
        (where / "authorities").chmod(0o755)
        for folder, files in state.items():
            for name, text in files.items():
                _keep(folder / name, text)
        for name in ("config", "authorities"):
            _remove_former(where / name, state[where / name])
        if inputs is None:
            (where / _LIST).unlink(missing_ok=True)
    except OSError as error:
        what = f"The lease is taken, and its folder {where} cannot be written: {error}."
        raise CommandError(what, Actor.USER, "name another folder (--folder).") from error


def _keep(path: Path, text: str) -> None:
    """Write a file that others of this machine do not read: jobs that read it meanwhile have the old one or the new."""
    # Nobody else has its name or may read it: jobs of one folder take their leases at the same time.
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".")
    new = Path(name)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def _remove_former(folder: Path, files: Container[str]) -> None:
    """Remove what only an earlier state of the session, or an earlier session of this name, had there."""
    for path in folder.iterdir():
        # The folder may be one where somebody has other files.
        if _FORMER.fullmatch(path.name) and path.name not in files:
            path.unlink(missing_ok=True)


def _environment(where: Path, session: _Session, *, has_inputs: bool) -> Iterator[tuple[str, str]]:
    yield "BEARER_TOKEN_FILE", str(where / "secret" / "token")
    yield "X509_CERT_DIR", str(where / "authorities")
    yield "VRSE_CA_BUNDLE", str(where / "config" / "ca.crt")
    yield "VRSE_SECRET", str(where / "secret")
    yield "VRSE_CONFIG", str(where / "config")
    yield "VRSE_ADDRESS", "public"
    yield "VRSE_ROOT_URL", session.settings[_ROOT]
    yield "VRSE_DAVS_URL", session.settings[_URL]
    if has_inputs:
        yield "VRSE_INPUTS", str(where / _LIST)
    yield from ((key, session.settings[key]) for key in _TOLD if key in session.settings)
