from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.unit.agent.conftest import Site, fence, leave, manifest, seal, until
from volatile_rse.agent import copying
from volatile_rse.agent.buffer import Buffer
from volatile_rse.agent.errors import AgentError
from volatile_rse.agent.places import Places
from volatile_rse.api.agent import Copies, CopyOrder, CopyState, CopyTarget, OutputState

DATA = b"result" * 50_000
PATH = "/store/out.root"


def order(buffer: Buffer, site: Site, paths: Sequence[str] = (PATH,)) -> Copies:
    [output] = buffer.ledger.every(OutputState).values()
    assert output.scope
    assert output.name
    targets = [CopyTarget(rse=f"SITE-{n}", pfn=site.url(path)) for n, path in enumerate(paths)]
    return Copies(copies=[CopyOrder(scope=output.scope, name=output.name, destinations=targets)])


def state(buffer: Buffer) -> CopyState:
    return next(iter(buffer.ledger.every(CopyState).values()))


@pytest.fixture(autouse=True)
def _digests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every file be a large one, unless a test says otherwise."""
    monkeypatch.setattr(copying, "_READ_BACK", 0)


@pytest.fixture
def read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "_READ_BACK", len(DATA))


@pytest.fixture
def sealed(buffer: Buffer) -> Buffer:
    leave(buffer, "out.root", DATA)
    fence(buffer)
    seal(buffer)
    return buffer


def test_copies_arrive_and_are_verified(sealed: Buffer, site: Site) -> None:
    sealed.take(manifest(site))
    sealed.copying.order(order(sealed, site, ("/a", "/b")))
    until(lambda: sealed.report().copies.verified == 2)
    assert site.files == {"/a": DATA, "/b": DATA}
    total = sealed.report().copies
    assert (total.files, total.failed, total.bytes, total.verified_bytes) == (2, 0, 2 * len(DATA), 2 * len(DATA))
    assert sorted(line for line in site.log if line.endswith("/a")) == ["HEAD /a", "HEAD /a", "PUT /a"]


def test_an_identical_file_is_not_sent_and_a_wrong_one_is_overwritten(sealed: Buffer, site: Site) -> None:
    site.files.update({"/a": DATA, "/b": DATA[:-1] + b"!"})
    sealed.take(manifest(site))
    sealed.copying.order(order(sealed, site, ("/a", "/b")))
    until(lambda: sealed.report().copies.verified == 2)
    assert "PUT /a" not in site.log
    assert site.files["/b"] == DATA


def test_an_upload_follows_a_redirection_from_its_begin(sealed: Buffer, site: Site) -> None:
    site.moved[PATH] = f"https{site.url('/moved').removeprefix('davs')}"
    sealed.take(manifest(site))
    sealed.copying.order(order(sealed, site))
    until(lambda: state(sealed).state == "verified")
    assert site.files == {"/moved": DATA}


def test_where_there_is_a_token_to_write_alone_what_was_written_is_looked_at_with_it(
    sealed: Buffer, site: Site
) -> None:
    whole = manifest(site)
    [(host, tokens)] = whole.credentials.items()
    sealed.take(whole.model_copy(update={"credentials": {host: tokens.model_copy(update={"read": None})}}))
    sealed.copying.order(order(sealed, site))
    until(lambda: state(sealed).state == "verified")


def test_what_arrives_wrong_is_sent_again(sealed: Buffer, site: Site) -> None:
    site.spoil = 2
    sealed.take(manifest(site))
    sealed.copying.order(order(sealed, site))
    until(lambda: state(sealed).state == "verified")
    assert (state(sealed).attempts, site.files[PATH]) == (3, DATA)


def test_three_failures_end_it_and_a_new_order_begins_anew(sealed: Buffer, site: Site) -> None:
    site.spoil = 3
    sealed.take(manifest(site))
    wanted = order(sealed, site)
    sealed.copying.order(wanted)
    until(lambda: state(sealed).state == "failed")
    assert state(sealed).attempts == 3
    assert "adler32" in (state(sealed).error or "")
    assert [failure.what for failure in sealed.report().failures] == [site.url(PATH)]
    sealed.copying.order(wanted)
    until(lambda: state(sealed).state == "verified")
    assert (state(sealed).attempts, state(sealed).error) == (1, None)


def test_copies_wait_for_credentials_and_outlive_the_agent(places: Places, sealed: Buffer, site: Site) -> None:
    sealed.copying.order(order(sealed, site))
    sealed.stop()
    sealed.ledger.close()
    assert site.log == []
    again = Buffer(places)
    again.start()
    assert state(again).state == "wanted"
    again.take(manifest(site))
    until(lambda: state(again).state == "verified")
    again.stop()


def test_only_sealed_outputs_are_copied(sealed: Buffer, site: Site) -> None:
    [wanted] = order(sealed, site).copies
    unknown = wanted.model_copy(update={"name": "unknown"})
    with pytest.raises(AgentError, match="no sealed output"):
        sealed.copying.order(Copies(copies=[wanted, unknown]))
    assert sealed.ledger.every(CopyState) == {}


def test_a_repeated_order_of_a_verified_copy_is_harmless(sealed: Buffer, site: Site) -> None:
    sealed.take(manifest(site))
    sealed.copying.order(order(sealed, site))
    until(lambda: state(sealed).state == "verified")
    version = sealed.ledger.version
    sealed.copying.order(order(sealed, site))
    assert sealed.ledger.version == version


def test_many_are_sent_side_by_side_and_asked_for_one_by_one(buffer: Buffer, site: Site) -> None:
    for number in range(60):
        leave(buffer, f"out-{number}.root", DATA[number : number + 1000])
    fence(buffer)
    seal(buffer)
    outputs = buffer.ledger.every(OutputState).values()
    copies = [
        CopyOrder(
            scope=output.scope or "", name=output.name or "",
            destinations=[CopyTarget(rse="SITE", pfn=site.url(f"/{output.name}"))],
        )
        for output in outputs
    ]  # fmt: skip
    buffer.take(manifest(site))
    buffer.copying.order(Copies(copies=copies))
    until(lambda: buffer.report().copies.verified == 60, 20)
    assert len(site.files) == 60
    assert site.asked_together == 1
    assert all(copy.attempts == 1 for copy in buffer.ledger.every(CopyState).values())


@pytest.mark.usefixtures("read_back")
def test_small_files_are_read_back_and_no_site_is_asked_for_a_checksum(sealed: Buffer, site: Site) -> None:
    site.digests = False
    site.files.update({"/a": DATA, "/b": DATA[:-1] + b"!", "/c": DATA + b"more"})
    sealed.take(manifest(site))
    sealed.copying.order(order(sealed, site, ("/a", "/b", "/c", "/d")))
    until(lambda: sealed.report().copies.verified == 4)
    assert set(site.files.values()) == {DATA}
    assert [line for line in site.log if line.endswith("/a")] == ["HEAD /a", "GET /a"]
    assert [line for line in site.log if line.endswith("/b")] == ["HEAD /b", "GET /b", "DELETE /b", "PUT /b", "GET /b"]
    assert [line for line in site.log if line.endswith("/d")] == ["HEAD /d", "PUT /d", "GET /d"]


@pytest.mark.usefixtures("read_back")
def test_what_is_read_back_wrong_is_sent_again(sealed: Buffer, site: Site) -> None:
    site.spoil = 2
    sealed.take(manifest(site))
    sealed.copying.order(order(sealed, site))
    until(lambda: state(sealed).state == "verified")
    assert (state(sealed).attempts, site.files[PATH]) == (3, DATA)
