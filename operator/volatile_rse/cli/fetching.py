"""The command ``fetch``: what a session has left, from the buffer itself, while it is not safe anywhere else."""

from __future__ import annotations

import base64
import json
import sys
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
from urllib3 import PoolManager, Timeout
from urllib3.exceptions import HTTPError
from urllib3.util import create_urllib3_context

from volatile_rse.api.conditions import Actor, ConditionType
from volatile_rse.api.schema import parse_duration
from volatile_rse.cli import program
from volatile_rse.cli.changing import is_ended
from volatile_rse.cli.errors import CommandError, Exit
from volatile_rse.cli.pages import condition_of, sized
from volatile_rse.cli.server import Object, Server, Unreadable
from volatile_rse.domain.naming import kept_name

__all__ = ["fetch"]

_SHOWN = 3
"""Files that failed which a message names."""
_PAUSE = 2.0
_CONNECT, _READ = 10.0, 60.0
_CHUNK = 1 << 20
_OK = 200
_PART = ".vrse-part"


@dataclass(frozen=True, slots=True)
class _File:
    """One file."""

    path: PurePosixPath
    """Below the outbox."""
    at: str
    """On the buffer."""
    bytes: int
    adler32: str


@dataclass(frozen=True, slots=True)
class _Kept:
    """What the operator gives to fetch them by."""

    url: str
    token: str
    authority: str
    files: tuple[_File, ...]
    more: int
    """Files that have found no room in the list."""


@click.command()
@program.the_name
@click.option(
    "--to", "folder", type=click.Path(file_okay=False, path_type=Path), default=Path(), help="Folder; default: here."
)
@click.option("--timeout", type=program.DURATION, default="2m", show_default=True, help="How long access is awaited.")
@program.on_cluster
def fetch(server: Server, name: str, folder: Path, timeout: str) -> int:
    """Fetch what a session has left and that is not safe: out of quarantine, or while its copies do not succeed.

    Each file is compared with its size and checksum; one that is there already is left alone.
    """
    body = server.get(name)
    _must_be_kept(server, body)
    if not (body["spec"].get("teardown") or {}).get("fetch"):
        server.change(body, {"teardown": {"fetch": True}})
    kept = _awaited(server, name, time.monotonic() + parse_duration(timeout).total_seconds())
    failed = _fetched(kept, folder)
    if kept.more:
        program.say(sys.stderr, f"{kept.more} files more are not listed: no list has room for them.")
    if failed:
        some = "; ".join(failed[:_SHOWN])
        what = f"{len(failed)} of {len(kept.files)} files of {server.namespace}/{name} were not fetched: {some}."
        raise CommandError(what, Actor.USER, "repeat the command: what is there is not fetched again.")
    if kept.more:
        what = f"{kept.more} files of {server.namespace}/{name} are not listed, and were not fetched; all others were."
        told = "copy these from the buffer's volume, where ns/store has them by their names in Rucio."
        raise CommandError(what, Actor.ADMIN, told)
    size = sized(sum(file.bytes for file in kept.files))
    program.say(sys.stdout, f"{len(kept.files)} files ({size}) are in {folder}. On the buffer they stay as they are.")
    return Exit.DONE


def _must_be_kept(server: Server, body: Object) -> None:
    whose = f"VolatileRSE {server.namespace}/{body['metadata']['name']}"
    if condition_of(body, ConditionType.OUTPUTS_SAFE).get("status") == "True":
        what = f"All outputs of {whose} are safe, and not on the buffer any more."
        raise CommandError(what, Actor.USER, "get them from Rucio (`rucio download`).")
    if not is_ended(body):
        what = f"The session of {whose} is not over: its outputs are its own."
        raise CommandError(what, Actor.USER, "read them with its token, or end it (`vrse end`).")


def _awaited(server: Server, name: str, until: float) -> _Kept:
    """Wait for the Secret that the operator makes."""
    secret = kept_name(name)
    what = f"Secret {server.namespace}/{secret}"
    while True:
        found = server.look(f"/api/v1/namespaces/{quote(server.namespace)}/secrets/{quote(secret)}", what)
        if isinstance(found, Unreadable):
            said = f"You may not read {what}, which opens the files."
            raise CommandError(said, Actor.ADMIN, "bind the ClusterRole edit to this user in the namespace.")
        if found is not None:
            return _kept(found, what)
        if time.monotonic() >= until:
            said = f"There is no {what} yet: the operator makes it once the outputs have been taken in."
            raise CommandError(said, Actor.USER, f"see `vrse status {name}`, and repeat the command.", Exit.LATE)
        time.sleep(_PAUSE)


def _kept(secret: Object, what: str) -> _Kept:
    try:
        texts = {key: base64.b64decode(value).decode() for key, value in (secret.get("data") or {}).items()}
        files = tuple(_file(json.loads(line)) for line in texts["files.jsonl"].splitlines())
        return _Kept(texts["url"], texts["token"].strip(), texts["ca.crt"], files, int(texts.get("more") or 0))
    except (KeyError, TypeError, ValueError) as error:
        said = f"{what} is not as the operator writes it ({type(error).__name__})."
        raise CommandError(said, Actor.USER, "delete it, and repeat the command: it is made anew.") from error


def _file(told: Mapping[str, object]) -> _File:
    path = PurePosixPath(str(told["path"]))
    if path.is_absolute() or not path.parts or {"..", "."} & set(path.parts):
        message = "a path leads out of the folder"
        raise ValueError(message)
    return _File(path, str(told["at"]), int(str(told["bytes"])), str(told["adler32"]))


def _fetched(kept: _Kept, folder: Path) -> list[str]:
    """Fetch all that is not there; say what failed."""
    failed = []
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True))
    with _pool(kept) as pool, Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bars:
        whole = bars.add_task("fetched", total=sum(file.bytes for file in kept.files))
        for file in kept.files:
            target = folder / file.path
            try:
                if not _is_there(target, file):
                    for size in _copied(pool, kept, file, target):
                        bars.advance(whole, size)
                    continue
            except (HTTPError, OSError, ValueError) as error:
                failed.append(f"{file.path}: {' '.join(str(error).split())}")
            bars.advance(whole, file.bytes)
    return failed


def _pool(kept: _Kept) -> PoolManager:
    context = create_urllib3_context()
    try:
        # Nobody else's authority counts for where a token goes.
        context.load_verify_locations(cadata=kept.authority)
    except (OSError, ValueError) as error:
        what = "The Secret has no authority that can be read."
        raise CommandError(what, Actor.USER, "delete it, and repeat the command: it is made anew.") from error
    return PoolManager(ssl_context=context, retries=False, timeout=Timeout(connect=_CONNECT, read=_READ))


def _is_there(target: Path, file: _File) -> bool:
    if not target.is_file() or target.stat().st_size != file.bytes:
        return False
    with target.open("rb") as opened:
        return _sum(iter(lambda: opened.read(_CHUNK), b"")) == file.adler32


def _copied(pool: PoolManager, kept: _Kept, file: _File, target: Path) -> Iterator[int]:
    """Fetch one file; give the sizes of its parts. It has its name once it is whole, and right."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name[:200]}{_PART}")
    url, headers = f"{kept.url}{quote(file.at)}", {"Authorization": f"Bearer {kept.token}"}
    answer = pool.request("GET", url, headers=headers, redirect=False, preload_content=False)
    try:
        if answer.status != _OK:
            message = f"the buffer gave {answer.status}"
            raise ValueError(message)
        value, size = 1, 0
        with part.open("wb") as opened:
            for chunk in answer.stream(_CHUNK, decode_content=False):
                opened.write(chunk)
                value, size = zlib.adler32(chunk, value), size + len(chunk)
                yield len(chunk)
        if size != file.bytes or f"{value:08x}" != file.adler32:
            message = f"it has {size} bytes with adler32 {value:08x}, and should have {file.bytes} with {file.adler32}"
            raise ValueError(message)
        part.replace(target)
    finally:
        answer.release_conn()
        part.unlink(missing_ok=True)


def _sum(chunks: Iterator[bytes]) -> str:
    value = 1
    for chunk in chunks:
        value = zlib.adler32(chunk, value)
    return f"{value:08x}"
