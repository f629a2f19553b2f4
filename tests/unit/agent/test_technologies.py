"""Sites that are not like XRootD: no directories by themselves, no checksums, no lengths, doors that send elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from tests.unit.agent.conftest import POOL, TOKEN, Site, fence, input_file, leave, manifest, seal, until
from volatile_rse.adapters.authority import LocalAuthority
from volatile_rse.agent import copying, transfer
from volatile_rse.agent.buffer import Buffer
from volatile_rse.agent.transfer import Access, TransferError, head
from volatile_rse.api.agent import Copies, CopyOrder, CopyState, CopyTarget, InputState, OutputState, SiteTokens

DATA = b"result" * 50_000
PATH = "/store/out.root"
DEEP = "/store/user/alice/ab/cd/out.root"
SHOWN = f"Bearer {TOKEN}"


@pytest.fixture(params=[False, True], ids=["small", "large"])
def sealed(buffer: Buffer, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Buffer:
    """Give a buffer with one output, of a size that is read back, or that is asked about first."""
    monkeypatch.setattr(copying, "_READ_BACK", 0 if request.param else len(DATA))
    return one_output(buffer)


@pytest.fixture
def large(buffer: Buffer, monkeypatch: pytest.MonkeyPatch) -> Buffer:
    monkeypatch.setattr(copying, "_READ_BACK", 0)
    return one_output(buffer)


@pytest.fixture
def small(buffer: Buffer) -> Buffer:
    return one_output(buffer)


@pytest.fixture
def pools(authority: LocalAuthority, tmp_path: Path) -> Iterator[Callable[[bool], Site]]:
    """Make further servers of the site: with TLS or without."""
    made: list[Site] = []

    def make(tls: bool) -> Site:  # noqa: FBT001 (with a name it would be no shorter)
        folder = tmp_path / f"pool-{len(made)}"
        folder.mkdir()
        made.append(Site(folder, authority, tls=tls))
        return made[-1]

    yield make
    for pool in made:
        pool.close()


def one_output(buffer: Buffer) -> Buffer:
    leave(buffer, "out.root", DATA)
    fence(buffer)
    seal(buffer)
    return buffer


def copy(buffer: Buffer, site: Site, paths: Sequence[str] = (PATH,)) -> None:
    outputs = buffer.ledger.every(OutputState).values()
    copies = [
        CopyOrder(scope=output.scope or "", name=output.name or "", destinations=targets(site, paths, number))
        for number, output in enumerate(outputs)
    ]
    buffer.copying.order(Copies(copies=copies))


def targets(site: Site, paths: Sequence[str], number: int) -> list[CopyTarget]:
    return [CopyTarget(rse=f"SITE-{n}", pfn=site.url(path.format(number))) for n, path in enumerate(paths)]


def copies(buffer: Buffer) -> list[CopyState]:
    return list(buffer.ledger.every(CopyState).values())


def verified(buffer: Buffer, number: int = 1) -> list[CopyState]:
    until(lambda: buffer.report().copies.verified == number, 20)
    return copies(buffer)


def failed(buffer: Buffer) -> str:
    until(lambda: buffer.report().copies.failed == 1, 20)
    return copies(buffer)[0].error or ""


def asked(site: Site, *methods: str) -> list[str]:
    return [line for line in site.log if line.startswith(methods)]


@pytest.mark.parametrize("says", [409, 404, 403])
def test_a_site_that_makes_no_directories_is_told_to(sealed: Buffer, site: Site, says: int) -> None:
    site.homeless = says
    sealed.take(manifest(site))
    copy(sealed, site, (DEEP,))
    [state] = verified(sealed)
    assert (site.files, state.attempts) == ({DEEP: DATA}, 1)
    user, alice, ab, cd = (f"MKCOL /store/{path}/" for path in ("user", "user/alice", "user/alice/ab", DEEP[7:-9]))
    # Up to the first one that can be made, and down again.
    assert asked(site, "PUT", "MKCOL") == [f"PUT {DEEP}", cd, ab, alice, user, alice, ab, cd, f"PUT {DEEP}"]


def test_many_files_that_need_the_same_directories_arrive_at_once(buffer: Buffer, site: Site) -> None:
    for number in range(40):
        leave(buffer, f"out-{number}.root", DATA[number : number + 1000])
    fence(buffer)
    seal(buffer)
    site.homeless = 409
    buffer.take(manifest(site))
    copy(buffer, site, ("/store/user/alice/ab/cd/{}.root",))
    assert {state.attempts for state in verified(buffer, 40)} == {1}
    assert len(asked(site, "PUT")) < 60


def test_who_may_not_write_makes_no_directories(small: Buffer, site: Site) -> None:
    site.homeless = 403
    small.take(manifest(site, paths=["/store/user/alice"]))
    copy(small, site, (DEEP,))
    said = failed(small)
    assert "gave 403" in said
    assert "in no folder that the token for localhost is for" in said
    assert all(line.split()[1].startswith("/store/user/alice/") for line in site.log)


def test_a_path_of_any_depth_is_asked_about_a_bounded_number_of_times(small: Buffer, site: Site) -> None:
    site.homeless, site.folders = 409, set()
    small.take(manifest(site))
    copy(small, site, (f"/store/{'a/' * 200}f",))
    assert "gave 409" in failed(small)
    assert len(asked(site, "MKCOL")) == 3 * copying._DEEPEST


@pytest.mark.parametrize("lengths", [None, "0"])
@pytest.mark.parametrize("digests", [True, ""])
def test_a_right_copy_without_a_length_is_neither_removed_nor_sent_again(
    sealed: Buffer, site: Site, lengths: str | None, digests: Literal[True, ""]
) -> None:
    site.files[PATH], site.lengths, site.digests = DATA, lengths, digests
    sealed.take(manifest(site))
    copy(sealed, site)
    assert [state.attempts for state in verified(sealed)] == [1]
    assert asked(site, "PUT", "DELETE") == []


@pytest.mark.parametrize("lengths", [None, "0"])
def test_what_is_sent_to_a_site_that_tells_no_lengths_is_sent_once(
    sealed: Buffer, site: Site, lengths: str | None
) -> None:
    site.lengths = lengths
    sealed.take(manifest(site))
    copy(sealed, site)
    verified(sealed)
    assert asked(site, "PUT", "DELETE") == [f"PUT {PATH}"]


TOLD = ["", "md5=1B2M2Y8AsgTpgAmY7PhCfg==", "adler32=", "sha-256=AAAA,crc32c=1", "adler32=00000bad", "adler32=Zm9v"]


@pytest.mark.parametrize("told", TOLD)
def test_what_a_header_does_not_vouch_for_is_read_back(large: Buffer, site: Site, told: str) -> None:
    site.files.update({"/right": DATA, "/wrong": DATA[:-1] + b"!", "/long": DATA + b"more"})
    site.digests = told
    large.take(manifest(site))
    copy(large, site, ("/right", "/wrong", "/long", "/new"))
    assert {state.attempts for state in verified(large, 4)} == {1}
    assert set(site.files.values()) == {DATA}
    assert sorted(asked(site, "PUT", "DELETE")) == [
        "DELETE /long",
        "DELETE /wrong",
        "PUT /long",
        "PUT /new",
        "PUT /wrong",
    ]


def test_large_files_are_read_back_one_at_a_time(buffer: Buffer, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "_READ_BACK", 0)
    for number in range(6):
        leave(buffer, f"out-{number}.root", DATA[number:])
    fence(buffer)
    seal(buffer)
    site.digests = False
    buffer.take(manifest(site))
    copy(buffer, site, ("/{}",))
    verified(buffer, 6)
    assert site.read_together == 1


@pytest.mark.parametrize("number", [9, 60])
def test_what_waits_to_be_read_back_keeps_no_other_site_waiting(
    buffer: Buffer, site: Site, pools: Callable[[bool], Site], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(copying, "_READ_BACK", 0)
    other, go_on = pools(True), threading.Event()
    for n in range(number + 1):
        leave(buffer, f"out-{n:02}.root", DATA[n:])
    fence(buffer)
    seal(buffer)
    site.digests = False
    site.held = {f"/{n}": (1000, go_on) for n in range(number)}
    buffer.take(manifest(site, hosts=("localhost", "127.0.0.1")))
    outputs = list(buffer.ledger.every(OutputState).values())
    slow = [(output, site.url(f"/{n}")) for n, output in enumerate(outputs[:-1])]
    try:
        buffer.copying.order(Copies(copies=[ordered(output, pfn) for output, pfn in slow]))
        until(lambda: site.reading == 1 and len(asked(site, "PUT")) >= copying._SLOTS, 20)
        buffer.copying.order(Copies(copies=[ordered(outputs[-1], other.address("/other", "127.0.0.1"))]))
        until(lambda: buffer.report().copies.verified == 1, 20)
        assert (site.reading, list(other.files)) == (1, ["/other"])
        # What is sent is bounded by what is still to be read back.
        assert len(asked(site, "PUT")) <= copying._WAITING + copying._SLOTS
    finally:
        go_on.set()
    assert {state.attempts for state in verified(buffer, number + 1)} == {1}
    assert site.read_together == 1


def ordered(output: OutputState, pfn: str) -> CopyOrder:
    target = CopyTarget(rse="SITE", pfn=pfn)
    return CopyOrder(scope=output.scope or "", name=output.name or "", destinations=[target])


def test_what_has_waited_shows_the_token_that_came_meanwhile(
    buffer: Buffer, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "_READ_BACK", 0)
    go_on = threading.Event()
    for number in range(4):
        leave(buffer, f"out-{number}.root", DATA[number:])
    fence(buffer)
    seal(buffer)
    site.digests, site.held = False, {f"/{number}": (1000, go_on) for number in range(4)}
    # It is removed and sent again, by requests that are made only then.
    site.files["/0"] = DATA[:-1] + b"!"
    buffer.take(manifest(site))
    copy(buffer, site, ("/{}",))
    try:
        until(lambda: site.reading == 1 and len(asked(site, "PUT")) == 3)
        site.token = "a-later-token"
        buffer.take(manifest(site, digest="2" * 64))
    finally:
        go_on.set()
    assert {state.attempts for state in verified(buffer, 4)} == {1}
    assert site.shown[-1] == "Bearer a-later-token"


def test_a_large_file_is_read_back_slowly(large: Buffer, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "_AGAIN_PER_SECOND", len(DATA) // 3)
    site.files[PATH], site.digests = DATA, False
    large.take(manifest(site))
    began = time.monotonic()
    copy(large, site)
    verified(large)
    assert time.monotonic() - began > 1.5


def test_the_pools_of_a_door_are_read_from_one_at_a_time(
    buffer: Buffer, site: Site, pools: Callable[[bool], Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "_READ_BACK", 0)
    pool = pools(True)
    for number in range(6):
        leave(buffer, f"out-{number}.root", DATA[number:])
        site.moved[f"/{number}"] = pool.address(f"/{number}?{POOL}", "127.0.0.1")
    fence(buffer)
    seal(buffer)
    pool.digests = False
    buffer.take(manifest(site))
    copy(buffer, site, ("/{}",))
    verified(buffer, 6)
    assert pool.read_together == 1
    assert set(pool.shown) == {None}
    assert len(asked(pool, "PUT")) == 6


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("size", [300_000, 3_000_000])
def test_an_upload_that_a_door_hands_on_to_its_pool_is_sent_as_a_whole_and_without_the_token(
    buffer: Buffer, site: Site, pools: Callable[[bool], Site], status: int, size: int
) -> None:
    pool, data = pools(True), bytes(range(250)) * (size // 250)
    leave(buffer, "out.root", data)
    fence(buffer)
    seal(buffer)
    site.moves, site.moved[PATH] = status, pool.address(f"/pool?{POOL}", "127.0.0.1")
    buffer.take(manifest(site))
    copy(buffer, site)
    assert verified(buffer)[0].attempts == 1
    assert pool.files == {"/pool": data}
    assert set(pool.shown) == {None}
    assert site.files == {}


def test_an_upload_that_is_sent_to_something_to_read_fails(small: Buffer, site: Site) -> None:
    site.files["/page"] = b"a page"
    site.moves, site.moved[PATH] = 303, site.address("/page")
    small.take(manifest(site))
    copy(small, site)
    assert "gave 303, which leads to no place where that can be done: the site's operators must" in failed(small)
    assert site.files == {"/page": b"a page"}


def test_nothing_is_written_without_tls(
    small: Buffer, site: Site, pools: Callable[[bool], Site], caplog: pytest.LogCaptureFixture
) -> None:
    pool = pools(False)
    site.moved[PATH] = pool.address(f"/pool?{POOL}")
    small.take(manifest(site, plain_redirects=True))
    copy(small, site)
    said = failed(small)
    assert f"PUT {site.url(PATH)} is redirected to plain http at localhost" in said
    assert "the site's operators must give its servers TLS" in said
    assert asked(pool, "PUT", "DELETE", "MKCOL") == []
    assert POOL not in caplog.text + said
    assert set(pool.shown) <= {None}


def test_what_may_be_read_over_tls_alone_is_verified_by_the_sites_own_word(
    sealed: Buffer, site: Site, pools: Callable[[bool], Site]
) -> None:
    """A door that takes files itself, and has its pools give them out."""
    pool = pools(False)
    site.gets_moved[PATH] = pool.address(f"/pool?{POOL}")
    sealed.take(manifest(site))
    copy(sealed, site)
    verified(sealed)
    assert pool.log == []
    assert asked(site, "PUT", "DELETE") == [f"PUT {PATH}"]


@pytest.mark.parametrize("lengths", ["", "0"])
def test_what_nobody_vouches_for_and_must_not_be_read_stays_and_is_told(
    sealed: Buffer, site: Site, pools: Callable[[bool], Site], lengths: str
) -> None:
    pool = pools(False)
    site.gets_moved[PATH] = pool.address(f"/pool?{POOL}")
    site.files[PATH], site.digests, site.lengths = DATA, False, lengths
    sealed.take(manifest(site))
    copy(sealed, site)
    said = failed(sealed)
    assert "plainRedirects for localhost in spec.sites of the VolatileRSEClass" in said
    assert "asked for its size and adler32 it does not tell both" in said
    assert POOL not in said
    assert (asked(site, "PUT", "DELETE"), pool.log) == ([], [])


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        (("7", True), f"it says that it has 7 bytes, not {len(DATA)}"),
        (("7", False), f"it says that it has 7 bytes, not {len(DATA)}"),
        (("", "adler32=00000bad"), "it says that it has adler32 00000bad, not "),
        ((None, "adler32=00000bad"), "it says that it has adler32 00000bad, not "),
    ],
)
def test_one_header_condemns_no_copy_that_must_not_be_read(
    sealed: Buffer, site: Site, pools: Callable[[bool], Site], headers: tuple[str | None, bool | str], says: str
) -> None:
    pool = pools(False)
    site.gets_moved[PATH] = pool.address(f"/pool?{POOL}")
    site.files[PATH], (site.lengths, site.digests) = DATA, headers
    sealed.take(manifest(site))
    copy(sealed, site)
    said = failed(sealed)
    assert "plainRedirects for localhost in spec.sites of the VolatileRSEClass" in said
    assert says in said
    assert (asked(site, "PUT", "DELETE"), site.files[PATH], pool.log) == ([], DATA, [])


def test_size_and_checksum_together_condemn_a_copy_that_must_not_be_read(
    sealed: Buffer, site: Site, pools: Callable[[bool], Site]
) -> None:
    pool = pools(False)
    site.gets_moved[PATH], site.files[PATH] = pool.address(f"/pool?{POOL}"), DATA[:-7]
    sealed.take(manifest(site))
    copy(sealed, site)
    assert [state.attempts for state in verified(sealed)] == [1]
    assert (asked(site, "PUT", "DELETE"), pool.log) == ([f"DELETE {PATH}", f"PUT {PATH}"], [])


def test_a_copy_is_read_back_without_tls_where_that_is_allowed(
    sealed: Buffer, site: Site, pools: Callable[[bool], Site]
) -> None:
    pool = pools(False)
    pool.files["/pool"], site.digests = DATA, False
    site.gets_moved[PATH] = pool.address(f"/pool?{POOL}")
    sealed.take(manifest(site, plain_redirects=True))
    copy(sealed, site)
    verified(sealed)
    assert pool.shown == [None]


def staged(buffer: Buffer) -> InputState:
    until(lambda: [state.state for state in buffer.ledger.every(InputState).values()] not in ([], ["wanted"]), 20)
    [state] = buffer.ledger.every(InputState).values()
    return state


def test_a_read_that_leads_out_of_tls_is_refused_with_words_that_help(
    buffer: Buffer, site: Site, pools: Callable[[bool], Site], caplog: pytest.LogCaptureFixture
) -> None:
    pool, file = pools(False), input_file(site, DATA)
    pool.files["/pool"], site.moved[file.path] = DATA, pool.address(f"/pool?{POOL}")
    buffer.take(manifest(site, file))
    state = staged(buffer)
    assert (state.state, pool.log) == ("failed", [])
    for words in (
        f"GET {site.url(file.path)} is redirected to plain http at localhost:",
        "the site's operators must give its servers TLS",
        "an administrator allows such reads by plainRedirects for localhost in spec.sites of the VolatileRSEClass",
    ):
        assert words in (state.error or "")
    assert POOL not in caplog.text + (state.error or "")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_read_that_leads_out_of_tls_is_followed_without_the_token_where_that_is_allowed(
    buffer: Buffer, site: Site, pools: Callable[[bool], Site], status: int
) -> None:
    pool, file = pools(False), input_file(site, DATA)
    pool.files["/pool"], site.moves = DATA, status
    site.moved[file.path] = pool.address(f"/pool?{POOL}")
    buffer.take(manifest(site, file, plain_redirects=True))
    assert staged(buffer).state == "staged"
    assert (pool.log, pool.shown, site.shown) == ([f"GET /pool?{POOL}"], [None], [SHOWN])


def test_what_came_without_tls_and_is_wrong_is_not_staged(
    buffer: Buffer, site: Site, pools: Callable[[bool], Site]
) -> None:
    pool, file = pools(False), input_file(site, DATA)
    pool.files["/pool"], site.moved[file.path] = DATA[:-1] + b"!", pool.address(f"/pool?{POOL}")
    buffer.take(manifest(site, file, plain_redirects=True))
    state = staged(buffer)
    assert state.state == "failed"
    assert "adler32" in (state.error or "")
    assert POOL not in (state.error or "")


def test_a_broken_read_of_a_pool_goes_on_where_it_ended(
    buffer: Buffer, site: Site, pools: Callable[[bool], Site]
) -> None:
    pool, file = pools(False), input_file(site, DATA)
    pool.files["/pool"], pool.cut["/pool"] = DATA, 100_000
    site.moved[file.path] = pool.address(f"/pool?{POOL}")
    buffer.take(manifest(site, file, plain_redirects=True))
    until(lambda: staged(buffer).state == "staged")
    assert [line.partition("bytes=")[2] for line in pool.log] == ["", "100000-"]


def test_no_token_is_shown_again_once_a_request_was_elsewhere(
    buffer: Buffer, site: Site, pools: Callable[[bool], Site]
) -> None:
    """Who answers without TLS, or another site, could have us read and write with it what he likes."""
    pool, file = pools(False), input_file(site, DATA)
    site.files["/secret"], site.moved[file.path] = DATA, pool.address("/pool")
    pool.moved["/pool"] = site.address("/secret")
    buffer.take(manifest(site, file, plain_redirects=True))
    assert "403" in (staged(buffer).error or "")
    assert set(site.shown[-1:]) == {None}


def test_no_token_is_shown_where_it_is_not_for(buffer: Buffer, site: Site) -> None:
    file = input_file(site, DATA)
    site.files["/other/f"], site.moved[file.path] = DATA, site.address("/other/f")
    buffer.take(manifest(site, file, paths=["/store"]))
    assert "403" in (staged(buffer).error or "")
    assert site.shown[:2] == [SHOWN, None]


@pytest.mark.parametrize("where", ["ftp://localhost/f?word", "file:///etc/f", "https://a%20b/f?word"])
def test_what_leads_to_no_place_is_not_followed(buffer: Buffer, site: Site, where: str) -> None:
    file = input_file(site, DATA)
    site.moved[file.path] = where
    buffer.take(manifest(site, file, plain_redirects=True))
    state = staged(buffer)
    assert "leads to no place where that can be done: the site's operators must mend" in (state.error or "")
    assert "word" not in (state.error or "")
    assert {line.split()[1] for line in site.log} == {file.path}


@pytest.mark.parametrize(
    "path", ["/caf\xe9?\xe9", "/\xff\xfe#\xe9", "/" + "a" * 20_000, "/a b?c d", "/\x01", "//", "/%zz"]
)
def test_a_redirection_to_any_text_ends_well(buffer: Buffer, site: Site, path: str) -> None:
    file = input_file(site, DATA)
    site.moved[file.path] = site.address(path)
    buffer.take(manifest(site, file, paths=["/"]))
    assert staged(buffer).state == "failed"
    assert site.log[-1].isascii()
    del site.moved[file.path]
    until(lambda: staged(buffer).state == "staged", 20)


@given(st.binary(max_size=60), st.sampled_from(["", "http://", "https://h", "https://h:99999/", "davs://site/f?"]))
def test_any_location_leads_somewhere_or_is_an_error_of_its_site(said: bytes, begin: str) -> None:
    tokens = SiteTokens(read=SecretStr(TOKEN), write=SecretStr(TOKEN), paths=["/f"], plain_redirects=True)
    request = head("davs://site/f", Access({"site": tokens}))
    try:
        onward = request.onward(302, begin + said.decode(errors="surrogateescape"))
    except TransferError:
        return
    assert onward.address.url.isascii()
    assert not onward.authorization or onward.address.place.host == "site"
