"""One odd file keeps nothing back: trees, names, kinds and sizes that a session, or somebody with its volume, makes."""

from __future__ import annotations

import errno
import os
import socket
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.unit.agent.conftest import (
    CLAIM,
    RECORD,
    Child,
    Site,
    adler32,
    fence,
    input_file,
    leave,
    manifest,
    request,
    seal,
    until,
)
from volatile_rse.agent import checksum, outbox, sealing, staging
from volatile_rse.agent.buffer import Buffer
from volatile_rse.agent.ledger import output_key
from volatile_rse.agent.places import Places, sync_all
from volatile_rse.agent.supervisor import Supervisor
from volatile_rse.agent.xrootd import Server
from volatile_rse.api.agent import PATH_LENGTH, InputState, OutputRule, OutputState, Report
from volatile_rse.api.text import visible

DEEP = 1200


def outputs(buffer: Buffer) -> dict[str, OutputState]:
    return {state.path: state for state in buffer.ledger.every(OutputState).values()}


@contextmanager
def deeper(folder: Path, name: str, depth: int) -> Iterator[int]:
    """Make directories one in another, however long the path becomes; give the last."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=handle)
        further = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=handle)
        os.close(handle)
        handle = further
    yield handle
    os.close(handle)


def write(folder: int, name: str, data: bytes) -> None:
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=folder)
    os.write(descriptor, data)
    os.close(descriptor)


def read(buffer: Buffer, state: OutputState) -> bytes:
    return buffer.places.on_disk(state.store_path or "").read_bytes()


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path) -> Iterator[None]:
    """Remove what pytest, whose own removal calls itself, could not."""
    yield
    flat = tmp_path / "flat"
    flat.mkdir()
    for area in ("ns/outbox", "ns/publish", "control/taken"):
        for top in (tmp_path / "data" / area / CLAIM).glob("*"):
            number, waiting = 0, [top]
            while waiting and (folder := waiting.pop()).is_dir() and not folder.is_symlink():
                for entry in list(folder.iterdir()):
                    if entry.is_dir() and not entry.is_symlink():
                        number += 1
                        waiting.append(entry.rename(flat / f"{top.name[:9]}-{number}"))


@pytest.mark.parametrize(
    ("name", "length"), [("d", 2 * DEEP), ("deep-dir", 9 * DEEP)], ids=["short names", "beyond what the kernel takes"]
)
def test_a_tree_1200_directories_deep_is_sealed_and_keeps_no_file_beside_it_back(
    buffer: Buffer, name: str, length: int
) -> None:
    assert sys.getrecursionlimit() < DEEP, "the case is none"
    leave(buffer, "good.root", b"good")
    with deeper(buffer.places.namespace / "outbox" / CLAIM, name, DEEP) as folder:
        write(folder, "deep.root", b"deep")
    fence(buffer)
    seal(buffer, "**/*.root")
    report = buffer.report()
    assert report.seal is not None
    assert report.seal.state == "done", report.seal.error
    assert Report.model_validate_json(report.model_dump_json()) == report
    states = outputs(buffer)
    assert {state.state for state in states.values()} == {"sealed"}
    [deep] = [state for path, state in states.items() if path != "good.root"]
    assert (read(buffer, states["good.root"]), read(buffer, deep)) == (b"good", b"deep")
    assert len(deep.path) <= PATH_LENGTH < length
    seal(buffer, "**/*.root")
    assert outputs(buffer) == states, "a repeated order finds what it has done"


def test_a_tree_that_no_program_can_name_is_told_as_one_thing_of_the_output_that_would_take_it(
    buffer: Buffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "_DEEPEST", 40)
    leave(buffer, "good.root")
    leave(buffer, "deep/" * 9 + "x.root")
    leave(buffer, "deep/" * 9 + "y.root")
    fence(buffer)
    seal(buffer, "**/*.root")
    told = {path: (state.state, state.output, state.error) for path, state in outputs(buffer).items()}
    assert told.pop("good.root")[0] == "sealed"
    assert told == {
        ("deep/" * 9)[:-1]: ("failed", "out", "File name too long: an administrator must look at the volume")
    }


def test_long_paths_are_told_shortly_and_never_as_one_and_survive_a_lost_ledger(buffer: Buffer) -> None:
    long = "x" * 200 + "/"
    for last in ("a.root", "b.root"):
        leave(buffer, long * 15 + last, last.encode())
    fence(buffer)
    seal(buffer)
    states = outputs(buffer)
    assert len(states) == 2
    assert all(len(path) <= PATH_LENGTH for path in states)
    assert sorted(read(buffer, state) for state in states.values()) == [b"a.root", b"b.root"]
    buffer.ledger.drop(list(buffer.ledger.every(OutputState)))
    buffer.sealing.recover()
    again = buffer.ledger.every(OutputState)
    assert {state.name for state in again.values()} == {state.name for state in states.values()}
    assert set(again) == {output_key(CLAIM, (long * 15 + last).encode()) for last in ("a.root", "b.root")}


def test_names_with_control_characters_line_ends_and_turns_are_sealed_and_told_as_people_may_read_them(
    buffer: Buffer,
) -> None:
    odd = [
        b"a\x1b[2Jb.root",
        b"new\nline.root",
        "\u202etoor.txt".encode(),
        b"\xff\xfe\x9b.root",
        b"\x7f\x01",
        b"\xed\xa0\x80",
    ]
    for path in odd:
        leave(buffer, path, path)
    fence(buffer)
    seal(buffer)
    states = buffer.ledger.every(OutputState)
    assert {state.state for state in states.values()} == {"sealed"}
    assert {key[len(CLAIM) + 1 :] for key in states} == set(odd)
    assert all(state.path == visible(state.path) for state in states.values())
    assert r"a\x1b[2Jb.root" in outputs(buffer)
    assert {read(buffer, state) for state in states.values()} == set(odd)


@pytest.mark.parametrize("pattern", ["a?b.root", "a\tb.root"])
def test_a_pattern_still_matches_what_is_shown_otherwise(buffer: Buffer, pattern: str) -> None:
    leave(buffer, "a\tb.root")
    fence(buffer)
    seal(buffer, pattern)
    assert outputs(buffer)[r"a\x09b.root"].state == "sealed"


@pytest.mark.parametrize("kind", ["fifo", "socket", "link to nothing", "link to itself", "link to a directory"])
def test_what_is_no_regular_file_is_told_and_keeps_nothing_back(buffer: Buffer, kind: str) -> None:
    odd = leave(buffer, "good.root").with_name("odd.root")
    match kind:
        case "fifo":
            os.mkfifo(odd)
        case "socket":
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(f"/proc/self/fd/{(folder := os.open(odd.parent, os.O_RDONLY))}/odd.root")
                os.close(folder)
        case "link to nothing":
            odd.symlink_to("/nowhere")
        case "link to itself":
            odd.symlink_to(odd)
        case _:
            odd.symlink_to("/etc")
    fence(buffer)
    seal(buffer)
    states = {path: (state.state, state.output) for path, state in outputs(buffer).items()}
    assert states == {"good.root": ("sealed", "out"), "odd.root": ("skipped", "out")}


def test_a_file_with_two_names_on_the_volume_is_told_and_keeps_nothing_back(buffer: Buffer) -> None:
    first = leave(buffer, "first.root")
    leave(buffer, "good.root")
    os.link(first, first.with_name("second.root"))
    fence(buffer)
    for _ in range(2):
        seal(buffer)
        states = {path: state.state for path, state in outputs(buffer).items()}
        assert states == {"good.root": "sealed", "first.root": "failed", "second.root": "failed"}
    assert "2 names" in (outputs(buffer)["first.root"].error or "")


def test_holes_larger_than_the_volume_are_told_at_once_and_their_sum_ends_no_report(buffer: Buffer) -> None:
    leave(buffer, "good.root", b"good")
    for name in ("a.root", "b.root"):
        with leave(buffer, name, b"").open("r+b") as stream:
            try:
                stream.truncate((1 << 63) - 4096)
            except OSError as error:
                if error.errno not in {errno.EFBIG, errno.EINVAL}:
                    raise
                stream.truncate(15 << 40)
    buffer.inventory.take([CLAIM], request().outputs)
    buffer.inventory.look()
    live = buffer.report()
    assert Report.model_validate_json(live.model_dump_json()) == live
    fence(buffer)
    began = time.monotonic()
    seal(buffer)
    assert time.monotonic() - began < 10
    states = outputs(buffer)
    assert {path: state.state for path, state in states.items()} == {
        "good.root": "sealed", "a.root": "failed", "b.root": "failed",
    }  # fmt: skip
    assert "hole" in (states["a.root"].error or "")
    report = buffer.report()
    assert Report.model_validate_json(report.model_dump_json()) == report


def test_a_checksum_takes_no_longer_for_holes_and_is_the_right_one(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as stream:
        stream.write(b"begin")
        stream.seek(3 << 20)
        stream.write(b"middle")
        stream.truncate(9 << 20)
    assert checksum.of_file(path) == zlib.adler32(path.read_bytes())
    with path.open("r+b") as stream:
        stream.truncate(1 << 40)
    began = time.monotonic()
    checksum.of_file(path)
    assert time.monotonic() - began < 1
    (tmp_path / "empty").touch()
    assert checksum.of_file(tmp_path / "empty") == checksum.EMPTY


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR])
@pytest.mark.parametrize("call", ["stat", "open", "chmod", "setxattr", "link"])
def test_any_error_of_one_file_is_told_of_it_and_keeps_no_other_back(
    buffer: Buffer, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    for path in ("a.root", "odd/odd.root", "z.root"):
        leave(buffer, path)
    owner = Path if call == "open" else os
    real = getattr(owner, call)

    def failing(path: object, *args: object, **kwargs: object) -> object:
        if "odd.root" in os.fsdecode(path if isinstance(path, str | bytes | os.PathLike) else b""):
            raise OSError(number, os.strerror(number), path)
        return real(path, *args, **kwargs)

    monkeypatch.setattr(owner, call, failing)
    fence(buffer)
    seal(buffer)
    monkeypatch.undo()
    assert buffer.report().seal is not None
    states = {path: (state.state, state.output) for path, state in outputs(buffer).items()}
    assert states == {"a.root": ("sealed", "out"), "odd/odd.root": ("failed", "out"), "z.root": ("sealed", "out")}
    seal(buffer)
    assert outputs(buffer)["odd/odd.root"].state == "sealed", "another attempt may succeed"


def test_a_directory_that_ends_early_gives_what_it_has(buffer: Buffer, monkeypatch: pytest.MonkeyPatch) -> None:
    leave(buffer, "a.root")
    leave(buffer, "b.root")
    real = os.scandir

    class Ending:
        def __init__(self, folder: int) -> None:
            self._entries = real(folder)

        def __enter__(self) -> Iterator[os.DirEntry[str]]:
            yield_first = next(iter(sorted(self._entries, key=lambda entry: entry.name)))

            def ending() -> Iterator[os.DirEntry[str]]:
                yield yield_first
                raise OSError(errno.EIO, os.strerror(errno.EIO))

            return ending()

        def __exit__(self, *_: object) -> None:
            self._entries.close()

    root = buffer.places.area("outbox", CLAIM).stat()
    monkeypatch.setattr(
        os, "scandir", lambda folder: Ending(folder) if os.path.samestat(os.fstat(folder), root) else real(folder)
    )
    fence(buffer)
    seal(buffer)
    states = {path: state.state for path, state in outputs(buffer).items()}
    assert states == {"a.root": "sealed", ".": "failed"}


def test_what_changes_under_the_walk_is_no_error(buffer: Buffer) -> None:
    for path in ("a", "b/x", "c", "d/y", "e"):
        leave(buffer, path)
    root = buffer.places.area("outbox", CLAIM)
    told: list[bytes] = []
    walking = outbox.walk(root, lambda path, _error: told.append(path))
    assert next(walking).path == b"a"
    (root / "c").unlink()
    (root / "c").mkdir()
    (root / "c" / "inside").touch()
    (root / "e").unlink()
    (root / "b" / "x").unlink()
    (root / "b").rmdir()
    (root / "d" / "y").rename(root / "d" / "z")
    assert [found.path for found in walking] == [b"c/inside", b"d/z"]
    assert told == []


def test_a_directory_that_becomes_a_link_under_the_walk_is_not_followed(buffer: Buffer, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret").touch()
    leave(buffer, "a/x")
    leave(buffer, "b/x")
    root = buffer.places.area("outbox", CLAIM)
    told: list[bytes] = []
    walking = outbox.walk(root, lambda path, _error: told.append(path))
    assert next(walking).path == b"a/x"
    (root / "b").rename(root / "was")
    (root / "b").symlink_to(tmp_path / "elsewhere")
    assert list(walking) == []
    assert told == [b"b"]


def test_a_row_that_breaks_the_protocol_is_never_written(buffer: Buffer) -> None:
    leave(buffer, "x/" * 150 + "y" * 200)
    fence(buffer)
    seal(buffer)
    [(key, state)] = buffer.ledger.every(OutputState).items()
    buffer.places.on_disk(state.store_path or "").unlink()
    buffer.sealing.miss()
    assert buffer.ledger.every(OutputState)[key].state == "failed", "a long error must not make it unreadable"


@pytest.mark.parametrize("name", ["n" * 300, "é" * 200, "d/" * 200 + "n" * 256])
def test_an_input_whose_name_no_disk_takes_fails_and_is_not_settling_for_ever(
    buffer: Buffer, site: Site, name: str
) -> None:
    bad = input_file(site, b"bad", "bad").model_copy(update={"path": f"/store/{name}", "name": "bad"})
    good = input_file(site, b"good", "good")
    buffer.take(manifest(site, bad, good))
    until(lambda: {state.state for state in buffer.ledger.every(InputState).values()} == {"staged", "failed"}, 30)
    states = {state.name: state for state in buffer.ledger.every(InputState).values()}
    assert states["good"].state == "staged"
    assert "File name too long" in (states["bad"].error or "")
    assert not [failure for failure in buffer.report().failures if failure.what.startswith("agent:")]


def test_an_input_that_cannot_be_synced_keeps_no_other_back(
    buffer: Buffer, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [input_file(site, name.encode(), name) for name in ("bad", *"abcdefgh")]
    bad = buffer.staging._partial(files[0])
    real = sync_all

    def damaged(path: str) -> None:
        if path == bad:
            raise OSError(errno.EIO, os.strerror(errno.EIO), bad)

    def damaged_in(paths: list[str]) -> None:
        for path in paths:
            damaged(path)
        real(paths)

    monkeypatch.setattr(staging, "sync_all", damaged_in)
    monkeypatch.setattr(staging, "sync", damaged)
    buffer.take(manifest(site, *files))
    until(
        lambda: (
            {state.name: state.state for state in buffer.ledger.every(InputState).values()}
            == {"bad": "failed", **dict.fromkeys("abcdefgh", "staged")}
        ),
        30,
    )


def test_one_directory_that_cannot_be_read_keeps_no_published_file_back_and_is_told(
    buffer: Buffer, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = OutputRule(claim=CLAIM, name="out", patterns=["**"], scope="user.alice", dataset="user.alice.out")
    buffer.publishing.stop()
    buffer.take(manifest(site).model_copy(update={"outputs": [rule], "continuous": ["out"], "record_id": RECORD}))
    root = buffer.places.area("publish", CLAIM)
    (root / "odd").mkdir()
    (root / "odd" / "f").touch()
    (root / "good").write_bytes(b"good")
    real = os.scandir
    odd = (root / "odd").stat()

    def damaged(folder: int | Path) -> object:
        if isinstance(folder, int) and os.path.samestat(os.fstat(folder), odd):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(folder)

    monkeypatch.setattr(os, "scandir", damaged)
    buffer.publishing.look()
    assert outputs(buffer)["good"].state == "sealed"
    buffer.inventory.look()
    monkeypatch.undo()
    told = {failure.what: failure.error for failure in buffer.report().failures}
    assert "odd: " in told[f"agent: publish/{CLAIM}"]
    assert "odd: " in told["agent: what cannot be read"]


def test_what_a_deep_published_tree_has_left_makes_way_for_a_file(buffer: Buffer, site: Site) -> None:
    rule = OutputRule(claim=CLAIM, name="out", patterns=["**"], scope="user.alice", dataset="user.alice.out")
    buffer.publishing.stop()
    buffer.take(manifest(site).model_copy(update={"outputs": [rule], "continuous": ["out"], "record_id": RECORD}))
    with deeper(buffer.places.area("taken", CLAIM), "d", DEEP):
        pass
    with deeper(buffer.places.area("publish", CLAIM) / "long", "d", DEEP) as folder:
        write(folder, "late", b"late")
    (buffer.places.area("publish", CLAIM) / "d").write_bytes(b"file")
    buffer.publishing.look()
    assert {path: state.state for path, state in outputs(buffer).items()} == {"d": "sealed"}
    assert "taken when the session ends" in buffer.report().failures[0].error
    fence(buffer)
    seal(buffer)
    assert {state.state for state in outputs(buffer).values()} == {"sealed"}
    assert len(outputs(buffer)) == 2


def test_a_file_that_was_moved_deeper_than_the_kernel_tells_while_it_is_written_keeps_the_fence_not_waiting(
    places: Places,
) -> None:
    server = Server(places, ports=())
    server._pid = os.getpid()
    root = places.area("outbox", CLAIM)
    with deeper(root, "deep-dir", 600) as folder:
        descriptor = os.open("torn", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=folder)
        try:
            written = server.written([places.area(area, "") for area in ("outbox", "publish")])
            assert [handle.name for handle in written] == [str(descriptor)]
            assert outbox.tear(written) == 1
        finally:
            os.close(descriptor)


def test_a_foreign_attribute_of_a_stored_file_ends_nothing(buffer: Buffer) -> None:
    leave(buffer, "a.root")
    fence(buffer)
    for number, value in enumerate([b"[]", b"{}", b'{"path": 7}', b"\xff", b'{"path": "zz"}']):
        path = buffer.places.namespace / "store" / f"odd-{number}"
        path.write_bytes(b"x")
        os.setxattr(path, sealing._IDENTITY, value)
        checksum.remember(path, adler32(b"x"))
        path.chmod(0o444)
    seal(buffer)
    assert outputs(buffer)["a.root"].state == "sealed"


def test_links_are_removed_while_the_session_runs_and_stay_told(buffer: Buffer, tmp_path: Path) -> None:
    behind = tmp_path / "behind"
    behind.mkdir()
    (behind / "secret").write_bytes(b"secret")
    good = leave(buffer, "good.root")
    good.with_name("file.root").symlink_to(behind / "secret")
    good.with_name("folder").symlink_to(behind)
    (buffer.places.area("publish", CLAIM)).mkdir(parents=True, exist_ok=True)
    (buffer.places.area("publish", CLAIM) / "published.root").symlink_to(behind / "secret")
    buffer.inventory.take([CLAIM], request("*.root").outputs)
    buffer.inventory.look()
    assert [path.name for path in good.parent.iterdir()] == ["good.root"]
    assert list(buffer.places.area("publish", CLAIM).iterdir()) == []
    assert (behind / "secret").read_bytes() == b"secret"
    fence(buffer)
    seal(buffer, "*.root")
    states = {path: (state.state, state.output) for path, state in outputs(buffer).items()}
    assert states == {
        "good.root": ("sealed", "out"), "file.root": ("skipped", "out"), "published.root": ("skipped", "out"),
        "folder": ("skipped", None),
    }  # fmt: skip
    assert "ADMIN must find out" in (outputs(buffer)["file.root"].error or "")


def test_no_link_is_there_when_xrootd_begins_to_serve(places: Places, tmp_path: Path) -> None:
    places.make()
    (tmp_path / "behind").write_bytes(b"kept")
    made = [places.namespace / area / "x" / "link" for area in ("store", "outbox", "publish")]
    for link in made:
        link.parent.mkdir()
        link.symlink_to(tmp_path / "behind")
    seen: list[bool] = []

    class Looking(Child):
        def start(self, configuration: str, *, forget_uploads: bool) -> None:
            super().start(configuration, forget_uploads=forget_uploads)
            seen.extend(link.is_symlink() for link in made)

    Supervisor(places, Looking(places)).begin()
    assert seen == [False] * 3
    assert (tmp_path / "behind").read_bytes() == b"kept"


def test_a_link_in_the_place_of_an_input_is_replaced(buffer: Buffer, site: Site, tmp_path: Path) -> None:
    file = input_file(site, b"input")
    behind = tmp_path / "behind"
    behind.write_bytes(b"input")
    checksum.remember(behind, file.adler32 or "")
    target = buffer.places.on_disk(file.path)
    target.parent.mkdir(parents=True)
    target.symlink_to(behind)
    buffer.take(manifest(site, file))
    until(lambda: not target.is_symlink() and target.is_file(), 30)
    until(lambda: buffer.ledger.input_totals()[0].staged == 1, 30)
    assert behind.read_bytes() == b"input"
