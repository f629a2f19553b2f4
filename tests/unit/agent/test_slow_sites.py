"""A site that answers a byte now and then, or without an end, holds no slot for ever."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from tests.unit.agent.conftest import TOKEN, Site, fence, input_file, leave, manifest, seal, until
from volatile_rse.agent import transfer
from volatile_rse.agent.buffer import Buffer
from volatile_rse.agent.multi import Engine, Steps
from volatile_rse.agent.transfer import Access, Answer, Request, TransferError, get, head, put
from volatile_rse.agent.troubles import Troubles
from volatile_rse.api.agent import Copies, CopyOrder, CopyState, CopyTarget, OutputState, SiteTokens


class Asking:
    """Asks one request at a time, and remembers what came of it."""

    def __init__(self) -> None:
        self.came: list[Answer | str] = []
        self._requests: list[Request] = []
        self._engine: Engine[int] = Engine("asking", 1, self._work, Troubles(lambda: None))
        self._engine.start()

    def _work(self, number: int) -> Steps:
        try:
            self.came.append((yield self._requests[number]))
        except TransferError as error:
            self.came.append(str(error))
        return None

    def __call__(self, request: Request) -> Answer | str:
        self._requests.append(request)
        self._engine.call([len(self._requests) - 1])
        until(lambda: len(self.came) == len(self._requests), 30)
        return self.came[-1]

    def stop(self) -> None:
        self._engine.stop()


@pytest.fixture
def asking() -> Iterator[Asking]:
    made = Asking()
    yield made
    made.stop()


@pytest.fixture
def access(site: Site) -> Access:
    path = site.folder / "ca.pem"
    path.write_text(site.bundle)
    return Access({"localhost": SiteTokens(read=SecretStr(TOKEN), write=SecretStr(TOKEN))}, path)


def broken_off(answer: Answer | str) -> str:
    assert isinstance(answer, str), answer
    return answer


def test_next_to_nothing_is_nothing(asking: Asking, site: Site, access: Access) -> None:
    site.files["/f"], site.dripping["/f"] = bytes(10_000), 0.02
    began = time.monotonic()
    request = Request("GET", site.url("/f"), access, {}, patience=1, size=10_000)
    assert "Operation too slow" in broken_off(asking(request))
    assert time.monotonic() - began < 5


def test_a_file_that_goes_on_arriving_is_broken_off_once_it_takes_too_long(
    asking: Asking, site: Site, access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "_LONGEST", 1)
    site.files["/f"], site.dripping["/f"] = bytes(10_000), 0.0005
    began = time.monotonic()
    assert "timed out" in broken_off(asking(get(site.url("/f"), access, 10_000, lambda *_: None)))
    assert time.monotonic() - began < 4


def test_a_file_has_the_more_time_the_greater_it_is_and_libcurl_takes_all_of_it(site: Site, access: Access) -> None:
    small, great, vast = (get(site.url("/f"), access, size, lambda *_: None).deadline for size in (1, 1 << 34, 1 << 62))
    assert small < 3 * 60
    assert great > (1 << 34) // 100_000
    assert vast < (1 << 31) // 1000


def test_headers_without_an_end_are_broken_off(asking: Asking, site: Site, access: Access) -> None:
    site.endless.add("/f")
    assert "HEAD" in broken_off(asking(head(site.url("/f"), access)))
    until(lambda: "HEAD /f was broken off" in site.log, 30)


def test_an_answer_without_an_end_to_what_asked_for_none_is_broken_off(
    asking: Asking, site: Site, access: Access
) -> None:
    site.endless.add("/f")
    with (site.folder / "empty").open("wb+") as stream:
        assert "PUT" in broken_off(asking(put(site.url("/f"), access, stream, 0)))
    until(lambda: "PUT /f was broken off" in site.log, 30)


def test_redirections_end(asking: Asking, site: Site, access: Access) -> None:
    site.moved["/f"] = site.url("/f").replace("davs", "https")
    assert "redirects" in broken_off(asking(head(site.url("/f"), access)))
    assert len([line for line in site.log if line.startswith("HEAD /f")]) < 10


def test_an_input_that_drips_is_fetched_elsewhere_and_holds_no_other(
    buffer: Buffer, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "_LONGEST", 1)
    data = bytes(range(250)) * 40
    files = []
    for number in range(9):
        slow, fast = f"/slow/{number}", f"/store/user/alice/{number}"
        site.files[slow], site.dripping[slow] = data, 0.05
        files.append(input_file(site, data, str(number), site.url(slow), site.url(fast)))
    buffer.take(manifest(site, *files))
    until(lambda: buffer.ledger.input_totals()[0].staged == 9, 40)


def test_a_copy_whose_site_answers_without_an_end_is_sent_anew(buffer: Buffer, site: Site) -> None:
    leave(buffer, "f", b"result")
    fence(buffer)
    seal(buffer)
    [state] = buffer.ledger.every(OutputState).values()
    site.endless.add("/copy")
    buffer.take(manifest(site))
    target = CopyTarget(rse="SITE-A", pfn=site.url("/copy"))
    buffer.copying.order(
        Copies(copies=[CopyOrder(scope=state.scope or "", name=state.name or "", destinations=[target])])
    )
    until(lambda: [copy.attempts for copy in buffer.ledger.every(CopyState).values()] != [0], 30)
    site.endless.clear()
    until(lambda: [copy.state for copy in buffer.ledger.every(CopyState).values()] == ["verified"], 30)
    assert site.files["/copy"] == b"result"
