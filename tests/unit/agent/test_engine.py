"""What comes from outside may fail a piece of work, and never the thread that does it."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pycurl
import pytest
from pydantic import SecretStr

import volatile_rse
from tests.unit.agent.conftest import TOKEN, Site, fence, input_file, leave, manifest, seal, until
from volatile_rse.agent import multi, worker
from volatile_rse.agent.buffer import Buffer
from volatile_rse.agent.multi import Engine, Steps
from volatile_rse.agent.places import Places
from volatile_rse.agent.transfer import (
    Access,
    InForce,
    Request,
    Transfer,
    TransferError,
    delete,
    digest,
    get,
    head,
    put,
    read_again,
)
from volatile_rse.agent.troubles import Troubles
from volatile_rse.api.agent import (
    Copies,
    CopyOrder,
    CopyState,
    CopyTarget,
    InputFile,
    InputState,
    Manifest,
    OutputState,
    SiteTokens,
)

DATA = b"data" * 1000


def given(site: Site, token: str, *files: InputFile, digest: str = "1" * 64) -> Manifest:
    credentials = {"localhost": SiteTokens(read=SecretStr(token), write=SecretStr(token))}
    return manifest(site, *files, digest=digest).model_copy(update={"credentials": credentials})


def state(buffer: Buffer, file: InputFile) -> InputState:
    found = buffer.ledger.get(InputState, file.path.encode())
    assert found is not None
    return found


BAD_TOKENS = [
    "tök\u20acn",
    "two words",
    "token\r\nX-Evil: yes",
    "token\x00",
    "token\nmore",
    "",
    "\ufeff",
    "\U0001f600",
    "in\ufeffside",
]


@pytest.mark.parametrize("token", BAD_TOKENS)
def test_what_is_no_token_fails_the_work_says_who_must_act_and_a_better_one_mends_it(
    buffer: Buffer, site: Site, token: str
) -> None:
    file = input_file(site, DATA)
    buffer.take(given(site, token, file))
    until(lambda: state(buffer, file).error)
    said = state(buffer, file).error or ""
    assert "the token for localhost is none: whoever keeps its Secret must write" in said
    assert not token.strip("\ufeff ") or token not in said
    assert site.log == []
    buffer.take(given(site, TOKEN, file, digest="2" * 64))
    until(lambda: state(buffer, file).state == "staged")


@pytest.mark.parametrize("around", [f"{TOKEN}\n", f"\ufeff{TOKEN}", f" {TOKEN}\r\n"])
def test_what_editors_leave_around_a_token_is_taken_off(buffer: Buffer, site: Site, around: str) -> None:
    file = input_file(site, DATA)
    buffer.take(given(site, around, file))
    until(lambda: state(buffer, file).state == "staged")


@pytest.mark.parametrize("url", ["davs://[::1/x", "davs://\u2100.example.org/x"])
def test_what_is_no_address_fails_the_work_and_keeps_no_other_back(buffer: Buffer, site: Site, url: str) -> None:
    odd, good = input_file(site, DATA, "odd.root", url), input_file(site, DATA, "good.root")
    buffer.take(manifest(site, odd, good))
    until(lambda: state(buffer, good).state == "staged")
    until(lambda: state(buffer, odd).state == "failed")
    assert "is no address" in (state(buffer, odd).error or "")
    assert "an administrator must mend" in (state(buffer, odd).error or "")


@pytest.mark.parametrize(("token", "url"), [("tök\u20acn", ""), (TOKEN, "davs://[::1/x")])
def test_copies_are_told_of_it_too(buffer: Buffer, site: Site, token: str, url: str) -> None:
    leave(buffer, "out.root", DATA)
    fence(buffer)
    seal(buffer)
    [output] = buffer.ledger.every(OutputState).values()
    target = CopyTarget(rse="SITE", pfn=url or site.url("/a"))
    buffer.take(given(site, token))
    order = CopyOrder(scope=output.scope or "", name=output.name or "", destinations=[target])
    buffer.copying.order(Copies(copies=[order]))
    until(lambda: [copy.state for copy in buffer.ledger.every(CopyState).values()] == ["failed"])
    [copy] = buffer.ledger.every(CopyState).values()
    assert "must" in (copy.error or "")
    assert [failure.what for failure in buffer.report().failures] == [target.pfn]


def test_what_libcurl_does_not_take_fails_that_request_alone(
    buffer: Buffer, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing(Transfer):
        def __init__(self, curl: pycurl.Curl, request: Request) -> None:
            if "odd" in request.url:
                message = "no such option"
                raise pycurl.error(message)
            super().__init__(curl, request)

    monkeypatch.setattr(multi, "Transfer", Refusing)
    odd, good = input_file(site, DATA, "odd.root"), input_file(site, DATA, "good.root")
    buffer.take(manifest(site, odd, good))
    until(lambda: state(buffer, good).state == "staged")
    until(lambda: "no such option" in (state(buffer, odd).error or ""))


def test_who_waits_for_a_request_that_cannot_be_sent_is_not_forgotten(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Digests are asked for one by one: the second is sent although the first never was."""
    site.files |= {"/odd": DATA, "/good": DATA}
    access = Access.of(manifest(site), site.folder)
    done: dict[str, object] = {}

    def work(path: str) -> Steps:
        try:
            done[path] = (yield digest(site.url(path), access, len(DATA))).status
        except TransferError as error:
            done[path] = str(error)
        return None

    class Refusing(Transfer):
        def __init__(self, curl: pycurl.Curl, request: Request) -> None:
            if request.url.endswith("/odd"):
                raise UnicodeEncodeError("ascii", "x", 0, 1, "no")  # noqa: EM101 (the words of Python)
            super().__init__(curl, request)

    monkeypatch.setattr(multi, "Transfer", Refusing)
    engine: Engine[str] = Engine("test", 4, work, Troubles(lambda: None))
    engine.call(["/odd", "/good", "/none"])
    engine.start()
    until(lambda: len(done) == 3)
    engine.stop()
    assert (done["/good"], done["/none"]) == (200, 404)
    assert str(done["/odd"]).startswith(f"HEAD {site.url('/odd')}: ")


def test_what_is_broken_off_and_does_not_end_well_stops_nobody(site: Site) -> None:
    """The disk may be full when a file is closed; or the work goes on to its next source, as it must not."""
    access, go_on, done = Access.of(manifest(site), site.folder), threading.Event(), set()
    site.files = dict.fromkeys(("/full", "/deaf", "/other"), DATA)
    site.held = {"/full": (1000, go_on), "/deaf": (1000, go_on)}

    def asked(path: str) -> Request:
        return get(site.url(path), access, 0, lambda _data, _begin: None)

    def work(path: str) -> Steps:
        try:
            yield asked(path)
            done.add(path)
        except GeneratorExit:
            if path == "/full":
                raise OSError(errno.ENOSPC, "No space left on device") from None
            yield asked("/other")
        return None

    engine: Engine[str] = Engine("test", 2, work, Troubles(lambda: None))
    engine.start()
    engine.call(["/full", "/deaf"])
    try:
        until(lambda: len(site.log) == 2)
        engine.cancel(["/full", "/deaf"])
        engine.call(["/other"])
        until(lambda: done == {"/other"})
    finally:
        go_on.set()
        engine.stop()


def test_what_has_waited_is_told_if_its_site_may_no_longer_be_asked(site: Site) -> None:
    access, go_on = InForce(Access.of(manifest(site), site.folder)), threading.Event()
    site.files = dict.fromkeys(("/0", "/1", "/2"), DATA)
    site.held["/0"] = 1000, go_on
    done: dict[str, object] = {}

    def work(path: str) -> Steps:
        try:
            done[path] = (yield read_again(site.url(path), access, len(DATA), lambda _data, _begin: None)).status
        except TransferError as error:
            done[path] = str(error)
        return None

    engine: Engine[str] = Engine("test", 4, work, Troubles(lambda: None))
    engine.start()
    engine.call(["/0", "/1", "/2"])
    try:
        until(lambda: site.reading == 1)
        access.now = Access()
        go_on.set()
        until(lambda: len(done) == 3)
    finally:
        go_on.set()
        engine.stop()
    assert done["/0"] == 200
    assert all("none of the sites that the operator has named" in str(done[path]) for path in ("/1", "/2"))
    assert site.log == ["GET /0"]


def test_what_is_put_off_begins_once_fewer_wait_also_where_it_never_waits_itself(site: Site) -> None:
    access, go_on = Access.of(manifest(site), site.folder), threading.Event()
    site.files = dict.fromkeys(("/slow", "/next"), DATA)
    site.held["/slow"] = 1000, go_on
    late, looked, done = {f"/late-{number}" for number in range(5)}, set(), set()

    def work(path: str) -> Steps:
        if path in late:
            looked.add(path)
            if engine.waiting("localhost"):
                engine.put_off(path, "localhost")
                return None
        else:
            yield read_again(site.url(path), access, len(DATA), lambda _data, _begin: None)
        done.add(path)
        return None

    engine: Engine[str] = Engine("test", 2, work, Troubles(lambda: None))
    engine.start()
    engine.call(["/slow", "/next"])
    try:
        until(lambda: site.reading == 1)
        # Again, as a new manifest does: put off twice, it begins once.
        for _ in range(2):
            looked.clear()
            engine.call(late)
            until(lambda: looked == late)
        assert done == set()
        go_on.set()
        until(lambda: done == {"/slow", "/next", *late})
    finally:
        go_on.set()
        engine.stop()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(
    ("part", "needs"),
    [
        (lambda buffer: buffer.staging._engine, "_multi"),
        (lambda buffer: buffer.copying._verified, "_change"),
        (lambda buffer: buffer.publishing, "_ended"),
        (lambda buffer: buffer.inventory, "_wake"),
    ],
)
def test_a_thread_that_dies_takes_the_process_along(
    places: Places, monkeypatch: pytest.MonkeyPatch, part: Callable[[Buffer], Any], needs: str
) -> None:
    codes: list[int] = []
    monkeypatch.setattr(worker, "_end", codes.append)
    dying = part(Buffer(places))
    monkeypatch.setattr(dying, needs, None)
    dying.start()
    until(lambda: codes == [70])


def test_the_process_really_ends_and_says_why() -> None:
    program = """
import threading
from volatile_rse.agent.batch import Batch
made = Batch("verified", lambda items: None, None)
made._next = None
made.start()
threading.Event().wait(30)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(volatile_rse.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 70
    assert "the thread verified is dead" in done.stderr


def test_requests_are_checked_where_they_are_made() -> None:
    access = Access({"site.example.org": SiteTokens(read=SecretStr("two words")), "open.example.org": SiteTokens()})
    with pytest.raises(TransferError, match=r"for site\.example\.org"):
        head("davs://Site.example.org:1/f", access)
    with pytest.raises(TransferError, match="no address"):
        get("davs://[x/f", access, 0, lambda _data, _begin: None)
    with pytest.raises(TransferError, match="none of the sites that the operator has named"):
        head("davs://other.example.org/f", access)
    assert head("davs://open.example.org/f", access).authorization == []


@pytest.mark.parametrize(
    "url", ["davs://site@evil.example.org/f", "davs://evil.example.org\\@site/f", "davs://site/f#x"]
)
def test_an_address_that_may_be_read_in_two_ways_is_shown_no_token(url: str) -> None:
    tokens = SiteTokens(read=SecretStr("read"), write=SecretStr("write"))
    with pytest.raises(TransferError, match="no address"):
        head(url, Access({"site": tokens, "evil.example.org": tokens}))


def test_a_site_is_shown_the_token_of_what_is_asked_and_only_below_its_folders() -> None:
    tokens = SiteTokens(read=SecretStr("read"), write=SecretStr("write"), paths=[":1094/cms"])
    access = Access({"site": tokens})
    shown = {
        request.method: request.authorization
        for request in (
            get("davs://site:1094//cms/f", access, 0, lambda _data, _begin: None),
            head("davs://site:1094/cms/f", access),
            put("davs://site:1094/cms/f", access, io.BytesIO(), 0),
            delete("davs://site:1094/cms/f", access),
        )
    }
    read, write = ["Authorization: Bearer read"], ["Authorization: Bearer write"]
    assert shown == {"GET": read, "HEAD": read, "PUT": write, "DELETE": write}
    assert digest("davs://site:1094/cms/f", access, 1).authorization == read
    for outside in ("davs://site:1094/atlas/f", "davs://site:1094/cms/../atlas/f", "davs://site:8443/cms/f"):
        with pytest.raises(TransferError, match=r"no folder that the token for site is for.*must"):
            head(outside, access)
