from __future__ import annotations

import hashlib
import os
import resource
import subprocess
import threading
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.unit.agent.conftest import Site, adler32, input_file, manifest, until
from volatile_rse.adapters.authority import LocalAuthority
from volatile_rse.agent import batch, checksum, staging
from volatile_rse.agent.buffer import Buffer
from volatile_rse.agent.multi import backoff
from volatile_rse.agent.places import Places
from volatile_rse.api.agent import InputFile, InputState

DATA = os.urandom(300_000)


def state(buffer: Buffer, file: InputFile) -> InputState:
    found = buffer.ledger.get(InputState, file.path.encode())
    assert found is not None
    return found


def staged(buffer: Buffer, file: InputFile) -> None:
    until(lambda: state(buffer, file).state == "staged")


def test_a_file_arrives_read_only_with_its_checksum(buffer: Buffer, site: Site) -> None:
    file = input_file(site, DATA)
    buffer.take(manifest(site, file))
    staged(buffer, file)
    path = buffer.places.on_disk(file.path)
    assert path.read_bytes() == DATA
    assert path.stat().st_mode & 0o7777 == 0o444
    assert checksum.remembered(path) == adler32(DATA)
    assert not list(buffer.places.partial.iterdir())
    [total] = buffer.report().inputs
    assert (total.name, total.files, total.staged, total.staged_bytes) == ("data", 1, 1, len(DATA))


def by_md5(site: Site, data: bytes, md5: str | None = None) -> InputFile:
    """Give a file of which the catalogue knows no adler32."""
    told = md5 or hashlib.md5(data, usedforsecurity=False).hexdigest()
    return InputFile.model_validate(input_file(site, data).model_dump() | {"adler32": None, "md5": told})


def test_a_file_is_compared_by_md5_where_that_is_all_there_is(buffer: Buffer, site: Site) -> None:
    file = by_md5(site, DATA)
    site.cut[file.path] = 100_000
    buffer.take(manifest(site, file))
    staged(buffer, file)
    path = buffer.places.on_disk(file.path)
    assert path.read_bytes() == DATA
    # XRootD is asked for this one.
    assert checksum.remembered(path) == state(buffer, file).adler32 == adler32(DATA)
    assert state(buffer, file).md5 == file.md5
    assert len(site.log) == 2
    before = state(buffer, file).version
    buffer.take(manifest(site, file, digest="2" * 64))
    staged(buffer, file)
    assert (len(site.log), state(buffer, file).version) == (2, before), "it was fetched or told again"


@pytest.mark.parametrize("data", [b"", DATA])
def test_a_file_with_another_md5_is_not_staged(buffer: Buffer, site: Site, data: bytes) -> None:
    file = by_md5(site, data, "0" * 32)
    buffer.take(manifest(site, file))
    until(lambda: state(buffer, file).state == "failed", 30)
    assert f"has md5 {hashlib.md5(data).hexdigest()}, not {'0' * 32}" in str(state(buffer, file).error)  # noqa: S324
    assert not buffer.places.on_disk(file.path).exists()


def test_a_file_that_is_told_by_another_checksum_now_is_compared_by_that(buffer: Buffer, site: Site) -> None:
    file = by_md5(site, DATA)
    buffer.take(manifest(site, file))
    staged(buffer, file)
    again = input_file(site, DATA)
    buffer.take(manifest(site, again, digest="2" * 64))
    staged(buffer, again)
    assert state(buffer, again).md5 is None
    buffer.take(manifest(site, by_md5(site, DATA, "0" * 32), digest="3" * 64))
    until(lambda: state(buffer, file).state == "failed", 30)


@pytest.mark.parametrize("sums", [{}, {"adler32": "00000001", "md5": "0" * 32}])
def test_a_file_has_one_checksum(site: Site, sums: dict[str, str]) -> None:
    told = input_file(site, b"x").model_dump() | {"adler32": None} | sums
    with pytest.raises(ValueError, match="has to have one checksum, adler32 or md5"):
        InputFile.model_validate(told)


def test_an_empty_file_arrives(buffer: Buffer, site: Site) -> None:
    file = input_file(site, b"")
    buffer.take(manifest(site, file))
    staged(buffer, file)
    assert buffer.places.on_disk(file.path).stat().st_size == 0


def test_a_broken_connection_is_resumed(buffer: Buffer, site: Site) -> None:
    file = input_file(site, DATA)
    site.cut[file.path] = 100_000
    buffer.take(manifest(site, file))
    staged(buffer, file)
    assert buffer.places.on_disk(file.path).read_bytes() == DATA
    assert [line.split(" ")[2:] for line in site.log] == [[], ["bytes=100000-"]]


def test_a_partial_file_of_an_earlier_agent_is_read_again(places: Places, buffer: Buffer, site: Site) -> None:
    file = input_file(site, DATA)
    partial = places.partial / hashlib.sha256(file.path.encode()).hexdigest()
    partial.write_bytes(b"wrong" + DATA[5:1000])
    assert (buffer.report().partial_files, buffer.report().partial_bytes) == (1, 1000)
    buffer.take(manifest(site, file))
    staged(buffer, file)
    assert places.on_disk(file.path).read_bytes() == DATA
    assert [line.split(" ")[2:] for line in site.log] == [["bytes=1000-"], []]
    assert (buffer.report().partial_files, buffer.report().partial_bytes) == (0, 0)


def test_a_file_without_a_source_says_where_it_is_if_that_is_known(buffer: Buffer, site: Site) -> None:
    file = input_file(site, DATA).model_copy(update={"sources": [], "barred": "on tape only, at SITE-T"})
    buffer.take(manifest(site, file))
    until(lambda: state(buffer, file).state == "failed")
    assert state(buffer, file).error == "Rucio has it on tape only, at SITE-T"
    assert "barred" in buffer.report().knows


def test_a_file_without_a_source_says_so_until_it_gets_one(buffer: Buffer, site: Site) -> None:
    file, other = input_file(site, DATA), input_file(site, DATA, "g.root")
    buffer.take(manifest(site, file.model_copy(update={"sources": []}), other))
    until(lambda: state(buffer, file).state == "failed")
    assert state(buffer, file).error == "Rucio lists no replica that may be read"
    staged(buffer, other)
    buffer.take(manifest(site, file, other))
    staged(buffer, file)


def test_a_disk_that_refuses_a_piece_breaks_the_transfer_off(buffer: Buffer, site: Site) -> None:
    data, go_on = os.urandom(3_000_000), threading.Event()
    file = input_file(site, data)
    # The site stands still after what the disk does not take: the end of the file is not what tells.
    site.held[file.path] = 2_500_000, go_on
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        buffer.take(manifest(site, file))
        until(lambda: "File too large" in (state(buffer, file).error or ""))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        go_on.set()
    staged(buffer, file)
    assert buffer.places.on_disk(file.path).read_bytes() == data


def test_a_disk_slower_than_the_site_gets_the_pieces_in_order(
    buffer: Buffer, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    extend = checksum.extend

    def slowly(value: int, data: bytes) -> int:
        # Not the rest, which is written at the end.
        threading.Event().wait(0.05 if len(data) >= 1 << 18 else 0)
        return extend(value, data)

    monkeypatch.setattr(checksum, "extend", slowly)
    data = os.urandom(1_000_000)
    file = input_file(site, data)
    buffer.take(manifest(site, file))
    staged(buffer, file)
    assert buffer.places.on_disk(file.path).read_bytes() == data
    assert len(site.log) == 1


def test_the_last_file_does_not_wait_for_more(buffer: Buffer, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "_PAUSE", 60)
    files = [input_file(site, DATA, f"{number}.root") for number in range(20)]
    buffer.take(manifest(site, *files))
    for file in files:
        staged(buffer, file)


def test_another_source_is_tried(buffer: Buffer, site: Site) -> None:
    site.files["/bad"] = b"x" * len(DATA)
    path = "/store/user/alice/f.root"
    file = input_file(site, DATA, "f.root", site.url("/none"), site.url("/bad"), site.url(path))
    buffer.take(manifest(site, file))
    staged(buffer, file)
    assert [line.split()[1] for line in site.log] == ["/none", "/bad", path]


def test_a_source_that_gives_nothing_is_no_progress(
    buffer: Buffer, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or its deadline would never be over, as often as it is tried."""
    told: list[int] = []
    monkeypatch.setattr(buffer.staging.progress, "arrived", lambda _entries, size: told.append(size))
    file = input_file(site, DATA, "f.root", site.url("/none"))
    buffer.take(manifest(site, file))
    until(lambda: len(site.log) >= 2)
    assert told == []


def test_a_wrong_file_fails_with_its_error_and_goes_on_being_tried(buffer: Buffer, site: Site) -> None:
    file = input_file(site, DATA)
    site.files[file.path] = b"x" * len(DATA)
    buffer.take(manifest(site, file))
    until(lambda: state(buffer, file).state == "failed")
    assert f"not {file.adler32}" in (state(buffer, file).error or "")
    [failure] = buffer.report().failures
    assert failure.what == file.path
    assert not buffer.places.on_disk(file.path).exists()
    site.files[file.path] = DATA
    staged(buffer, file)
    assert buffer.report().failures == []


def test_a_site_with_more_bytes_than_the_catalogue_is_refused(buffer: Buffer, site: Site) -> None:
    file = input_file(site, DATA)
    site.files[file.path] = DATA + b"more"
    buffer.take(manifest(site, file))
    until(lambda: "more than the" in (state(buffer, file).error or ""))


def test_too_little_space_is_said_before_anything_is_fetched(
    buffer: Buffer, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "_RESERVE", 1 << 60)
    file = input_file(site, DATA)
    buffer.take(manifest(site, file))
    until(lambda: "owner must free space" in (state(buffer, file).error or ""))
    assert site.log == []


def test_what_has_arrived_is_not_counted_twice(buffer: Buffer, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two files fit together: the second asks for room while a part of the first has arrived."""
    first, second = input_file(site, DATA, "first.root"), input_file(site, DATA, "second.root")
    partial = buffer.places.partial / hashlib.sha256(first.path.encode()).hexdigest()
    go_on = threading.Event()
    arrived = 1 << 18
    site.held[first.path] = arrived, go_on

    def volume(_: object) -> SimpleNamespace:
        there = sum(path.stat().st_size for path in buffer.places.data.rglob("*") if path.name in names)
        return SimpleNamespace(f_frsize=1, f_bavail=2 * len(DATA) - there, f_blocks=1, f_files=1, f_favail=1)

    names = {partial.name, hashlib.sha256(second.path.encode()).hexdigest(), "first.root", "second.root"}
    monkeypatch.setattr(staging, "_RESERVE", 0)
    monkeypatch.setattr(staging, "_PIECE", 512)
    monkeypatch.setattr(os, "statvfs", volume)
    greater = input_file(site, DATA + b"!", "greater.root")
    try:
        # One asks after the other, so that the order is the same on every machine.
        buffer.take(manifest(site, first))
        until(lambda: partial.exists() and partial.stat().st_size > len(DATA) // 2)
        buffer.take(manifest(site, first, second))
        staged(buffer, second)
        buffer.take(manifest(site, first, second, greater))
        until(lambda: "owner must free space" in (state(buffer, greater).error or ""))
    finally:
        go_on.set()
    staged(buffer, first)


def test_a_redirection_within_https_is_followed(buffer: Buffer, site: Site) -> None:
    file = input_file(site, DATA)
    site.moved[file.path] = f"https{site.url('/moved').removeprefix('davs')}"
    site.files["/moved"] = DATA
    buffer.take(manifest(site, file))
    staged(buffer, file)


def test_a_redirection_out_of_https_is_refused(buffer: Buffer, site: Site) -> None:
    file = input_file(site, DATA)
    site.moved[file.path] = f"http{site.url('/moved').removeprefix('davs')}"
    buffer.take(manifest(site, file))
    until(lambda: state(buffer, file).state == "failed")
    assert "http" in (state(buffer, file).error or "").lower()
    assert {line.split()[1] for line in site.log} == {file.path}


def test_a_token_is_not_shown_to_the_host_that_is_redirected_to(buffer: Buffer, site: Site) -> None:
    file = input_file(site, DATA)
    site.moved[file.path] = f"https{site.url('/moved').removeprefix('davs')}".replace("localhost", "127.0.0.1")
    site.files["/moved"] = DATA
    buffer.take(manifest(site, file))
    until(lambda: state(buffer, file).state == "failed")
    assert "403" in (state(buffer, file).error or "")
    assert "/moved" in {line.split()[1] for line in site.log}


def test_a_token_is_not_shown_to_another_port_of_its_host(
    buffer: Buffer, site: Site, authority: LocalAuthority, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = Site(tmp_path / "other", authority)
    try:
        file = input_file(site, DATA)
        site.moved[file.path] = f"https{other.url('/moved').removeprefix('davs')}"
        other.files["/moved"] = DATA
        buffer.take(manifest(site, file))
        until(lambda: state(buffer, file).state == "failed")
        assert "403" in (state(buffer, file).error or "")
        assert "GET /moved" in other.log
    finally:
        other.close()


def test_what_is_there_is_not_fetched_again(places: Places, buffer: Buffer, site: Site) -> None:
    files = [input_file(site, DATA[n:], f"f{n}.root") for n in range(20)]
    buffer.take(manifest(site, *files))
    until(lambda: buffer.report().inputs[0].staged == 20)
    seen, version = len(site.log), buffer.ledger.version
    buffer.take(manifest(site, *files, digest="2" * 64))
    assert buffer.ledger.version == version + 1, "unchanged rows are not written"
    buffer.ledger.close()
    for file in places.control.glob("ledger.sqlite*"):
        file.unlink()
    again = Buffer(places)
    again.take(manifest(site, *files))
    assert again.report().inputs[0].staged == 20
    assert len(site.log) == seen


def test_a_lost_file_is_fetched_again_by_the_next_manifest(buffer: Buffer, site: Site) -> None:
    file = input_file(site, DATA)
    buffer.take(manifest(site, file))
    staged(buffer, file)
    buffer.places.on_disk(file.path).unlink()
    buffer.take(manifest(site, file, digest="2" * 64))
    until(buffer.places.on_disk(file.path).exists)


def test_a_manifest_without_inputs_stops_staging_and_leaves_everything(buffer: Buffer, site: Site) -> None:
    good, bad = input_file(site, DATA), input_file(site, DATA, "bad.root")
    del site.files[bad.path]
    buffer.take(manifest(site, good, bad))
    staged(buffer, good)
    until(lambda: state(buffer, bad).state == "failed")
    buffer.take(manifest(site, digest="2" * 64))
    site.files[bad.path] = DATA
    with pytest.raises(AssertionError):
        until(lambda: state(buffer, bad).state == "staged", 0.5)
    assert state(buffer, good).state == "staged"
    assert buffer.places.on_disk(good.path).exists()
    assert [(total.files, total.staged, total.failed) for total in buffer.report().inputs] == [(2, 1, 1)]


def test_a_site_of_another_authority_gets_no_token(buffer: Buffer, site: Site) -> None:
    file = input_file(site, DATA)
    buffer.take(manifest(site, file).model_copy(update={"trust": None}))
    until(lambda: "certificate" in (state(buffer, file).error or "").lower())
    assert site.log == []


def test_no_other_program_sees_the_bytes_of_a_token(buffer: Buffer, site: Site) -> None:
    buffer.take(manifest(site))
    found = subprocess.run(
        ["grep", "-r", "token-of-the-site", str(buffer.places.data)], check=False, capture_output=True
    )
    assert found.stdout == b""


@pytest.mark.parametrize(("attempts", "longest"), [(1, 1.0), (3, 4.0), (50, 60.0)])
def test_repetitions_are_scattered_below_their_cap(attempts: int, longest: float) -> None:
    waits = [backoff(attempts, 1.0, 60.0) for _ in range(100)]
    assert longest / 2 <= min(waits) < max(waits) <= longest


def test_many_files_share_their_syncs_and_transactions(
    buffer: Buffer, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [input_file(site, DATA[n : n + 100], f"f{n}.root") for n in range(300)]
    synced: list[int] = []

    def sync_all(paths: list[str]) -> None:
        assert not any(buffer.places.on_disk(files[number(path)].path).exists() for path in paths), "named before"
        synced.append(len(paths))

    partials = {hashlib.sha256(file.path.encode()).hexdigest(): n for n, file in enumerate(files)}

    def number(path: str) -> int:
        return partials[Path(path).name]

    monkeypatch.setattr(staging, "sync_all", sync_all)
    buffer.report()
    before = buffer.ledger.version
    buffer.take(manifest(site, *files))
    until(lambda: buffer.report().inputs[0].staged == 300, 20)
    assert sum(synced) == 300
    assert len(synced) < 60
    assert buffer.ledger.version == before + 601, "a row as wanted, a row as staged, the manifest"
    assert not list(buffer.places.partial.iterdir())
    assert sorted(line.split()[1] for line in site.log) == sorted(file.path for file in files), "each is read once"


def test_a_file_that_cannot_get_its_name_does_not_keep_others_back(buffer: Buffer, site: Site) -> None:
    good, bad = input_file(site, DATA), input_file(site, DATA, "dir/bad.root")
    buffer.places.on_disk("/store/user/alice").mkdir(parents=True)
    buffer.places.on_disk("/store/user/alice/dir").write_bytes(b"in the way")
    buffer.take(manifest(site, good, bad))
    staged(buffer, good)
    until(lambda: state(buffer, bad).state == "failed")
    buffer.places.on_disk("/store/user/alice/dir").unlink()
    staged(buffer, bad)


def test_what_is_no_longer_wanted_is_broken_off(buffer: Buffer, site: Site) -> None:
    files = [input_file(site, DATA, f"f{n}.root") for n in range(8)]
    go_on = threading.Event()
    site.held = {file.path: (1000, go_on) for file in files}
    other = input_file(site, DATA, "other.root")
    try:
        buffer.take(manifest(site, *files))
        until(lambda: len(site.log) == 8)
        buffer.take(manifest(site, other))
        staged(buffer, other)
    finally:
        go_on.set()


def test_a_name_with_blanks_and_accents_arrives(buffer: Buffer, site: Site) -> None:
    site.files["/a%20%C3%A9.root"] = DATA
    file = input_file(site, DATA, "f.root", site.url("/a é.root"))
    buffer.take(manifest(site, file))
    staged(buffer, file)


@pytest.mark.slow
def test_five_thousand_files_arrive_in_little_memory(buffer: Buffer, site: Site) -> None:
    data = os.urandom(20_000)
    files = [input_file(site, data, f"f{n}.root") for n in range(5000)]
    tracemalloc.start()
    buffer.take(manifest(site, *files))
    until(lambda: buffer.report().inputs[0].staged == 5000, 120)
    assert tracemalloc.get_traced_memory()[1] < 100_000_000
    tracemalloc.stop()


def test_a_file_that_is_there_belongs_to_an_input_that_comes_later_too(buffer: Buffer, site: Site) -> None:
    file = input_file(site, b"data", "x")
    buffer.take(manifest(site, file))
    until(lambda: buffer.report().inputs[0].staged == 1)
    buffer.take(manifest(site, file.model_copy(update={"entries": ["data", "more"]}), digest="2" * 64))
    assert {total.name: total.staged for total in buffer.report().inputs} == {"data": 1, "more": 1}
    version = buffer.ledger.version
    buffer.take(manifest(site, file.model_copy(update={"entries": ["data", "more"]}), digest="3" * 64))
    assert buffer.ledger.version == version + 1, "what is known is not written again"
