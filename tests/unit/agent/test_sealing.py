from __future__ import annotations

import ctypes
import itertools
import os
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.unit.agent.conftest import CLAIM, RECORD, adler32, fence, leave, request, seal
from volatile_rse.agent import checksum, sealing
from volatile_rse.agent import places as places_module
from volatile_rse.agent.buffer import Buffer
from volatile_rse.agent.errors import AgentError
from volatile_rse.agent.ledger import Row, output_row
from volatile_rse.agent.outbox import rule_below
from volatile_rse.agent.places import Places
from volatile_rse.api.agent import OutputRule, OutputState, SealState
from volatile_rse.api.names import hash_path, lfn_name


def outputs(buffer: Buffer) -> dict[str, OutputState]:
    return {state.path: state for state in buffer.ledger.every(OutputState).values()}


def test_a_file_is_sealed_under_its_name_for_good(buffer: Buffer) -> None:
    source = leave(buffer, "plots/h.root", b"result")
    fence(buffer)
    seal(buffer)
    assert buffer.report().seal == SealState(generation=1, state="done")
    state = outputs(buffer)["plots/h.root"]
    name = lfn_name("user.alice.out", RECORD, b"plots/h.root")
    assert (state.state, state.name, state.adler32, state.bytes) == ("sealed", name, adler32(b"result"), 6)
    assert state.store_path == f"/store/{hash_path('user.alice', name)}"
    path = buffer.places.on_disk(state.store_path)
    assert path.read_bytes() == b"result"
    assert path.stat().st_mode & 0o7777 == 0o444
    assert path.stat().st_nlink == 1
    assert checksum.remembered(path) == state.adler32
    assert not source.exists()
    [total] = buffer.report().outputs
    assert (total.claim, total.name, total.files, total.sealed) == (CLAIM, "out", 1, 1)


def test_an_inventory_tells_since_when_it_has_not_got_on(buffer: Buffer, monkeypatch: pytest.MonkeyPatch) -> None:
    leave(buffer, "f")
    fence(buffer)
    now = time.monotonic()
    monkeypatch.setattr(sealing, "time", SimpleNamespace(monotonic=lambda: now))
    with buffer.sealing.working:
        buffer.sealing.order(request())
        assert buffer.report().seal == SealState(generation=1, state="running", idle=0)
        now += 700.5
        assert buffer.report().seal == SealState(generation=1, state="running", idle=700)
    buffer.sealing.join()
    assert buffer.report().seal == SealState(generation=1, state="done")


def test_an_inventory_gets_on_with_each_file_that_it_finds_and_each_mebibyte_that_it_reads(
    buffer: Buffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count()
    monkeypatch.setattr(sealing, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    leave(buffer, "small")
    leave(buffer, "great", bytes(9 << 20))
    fence(buffer)
    seal(buffer)
    ordered, found, taken, blocks = 1, 2, 2 * 3, 1 + 9
    assert next(clock) == ordered + found + taken + blocks


def test_nothing_is_sealed_before_the_fence_stands(buffer: Buffer) -> None:
    source = leave(buffer, "f")
    with pytest.raises(AgentError, match="fence first"):
        buffer.sealing.order(request())
    buffer.gate.fence(1)
    with pytest.raises(AgentError, match="not fenced by 1"):
        buffer.sealing.order(request())
    fence(buffer, 2)
    with pytest.raises(AgentError):
        buffer.sealing.order(request(generation=1))
    assert source.exists()


def test_what_programs_leave_lying_about_is_no_output(buffer: Buffer) -> None:
    paths = [".ipynb_checkpoints/n.root", "a/__pycache__/m.root", "a/.~lock.root", "x.root~", "a/.f.root.swp"]
    for path in [*paths, "a/ipynb_checkpoints.root", "__pycache__.root"]:
        leave(buffer, path)
    fence(buffer)
    seal(buffer, "**")
    states = {path: state.state for path, state in outputs(buffer).items()}
    assert {path for path, state in states.items() if state == "excluded"} == set(paths)
    assert {path for path, state in states.items() if state == "sealed"} == {
        "a/ipynb_checkpoints.root",
        "__pycache__.root",
    }


def test_names_of_every_kind_are_sealed_under_names_of_their_own(buffer: Buffer) -> None:
    paths = ["a b.root", "ü/ñ.root", "new\nline.root", "x" * 250, "p.parquet/part-0", "p.parquet/_SUCCESS", ".hidden"]
    for path in paths:
        leave(buffer, path, b"" if path == ".hidden" else path.encode())
    leave(buffer, b"not-\xff-utf8", b"raw")
    fence(buffer)
    seal(buffer, "**")
    found = outputs(buffer)
    assert {state.state for state in found.values()} == {"sealed"}
    assert len(found) == len(paths) + 1
    assert len({state.name for state in found.values()}) == len(found)
    assert all(len(state.name or "") <= 250 for state in found.values())
    assert found[".hidden"].bytes == 0
    assert found[".hidden"].adler32 == "00000001"


def test_what_must_not_be_sealed_stays_and_is_listed(buffer: Buffer) -> None:
    good, torn, other = leave(buffer, "a.root"), leave(buffer, "b.root"), leave(buffer, "notes.txt")
    torn.chmod(0o1644)
    link = good.with_name("c.root")
    link.symlink_to("/etc/passwd")
    os.mkfifo(good.with_name("d.root"))
    fence(buffer)
    seal(buffer, "*.root")
    states = {path: state.state for path, state in outputs(buffer).items()}
    assert states == {
        "a.root": "sealed",
        "b.root": "torn",
        "notes.txt": "unmatched",
        "c.root": "skipped",
        "d.root": "skipped",
    }
    assert torn.exists()
    assert other.exists()
    assert link.is_symlink()
    totals = {total.name: (total.files, total.sealed, total.torn, total.failed) for total in buffer.report().outputs}
    assert totals == {"out": (4, 1, 1, 0), None: (1, 0, 0, 0)}


def test_the_first_rule_takes_a_file_and_rules_are_of_their_claim(buffer: Buffer) -> None:
    leave(buffer, "a/x.root")
    leave(buffer, "y.root")
    other = buffer.places.namespace / "outbox" / "claim-2" / "z.root"
    other.parent.mkdir()
    other.write_bytes(b"z")
    fence(buffer)
    rules = [
        OutputRule(claim=CLAIM, name=name, patterns=[pattern], scope="user.alice", dataset=f"user.alice.{name}")
        for name, pattern in (("first", "a/**"), ("second", "**/*.root"))
    ]
    buffer.sealing.order(request().model_copy(update={"outputs": rules}))
    buffer.sealing.join()
    found = {path: (state.claim, state.output, state.state) for path, state in outputs(buffer).items()}
    assert found == {
        "a/x.root": (CLAIM, "first", "sealed"),
        "y.root": (CLAIM, "second", "sealed"),
        "z.root": ("claim-2", None, "unmatched"),
    }


def test_odd_names_and_closed_modes_are_sealed(buffer: Buffer) -> None:
    leave(buffer, b"\xff\n.root", b"odd")
    leave(buffer, "closed/f.root").chmod(0)
    (buffer.places.namespace / "outbox" / CLAIM / "closed").chmod(0)
    fence(buffer)
    seal(buffer)
    assert {path: state.state for path, state in outputs(buffer).items()} == {
        "\\xff\\x0a.root": "sealed",
        "closed/f.root": "sealed",
    }


def test_a_repeated_order_changes_nothing_and_failed_files_get_another_chance(
    buffer: Buffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(buffer, "a")
    fence(buffer)
    with monkeypatch.context() as patch:
        patch.setattr(os, "link", _raise)
        seal(buffer)
    assert outputs(buffer)["a"].error == "no more"
    seal(buffer)
    assert outputs(buffer)["a"].state == "sealed"
    version = buffer.ledger.version
    seal(buffer)
    assert buffer.ledger.version == version


def test_many_files_are_sealed_with_few_writes(buffer: Buffer, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(450):
        leave(buffer, f"{number % 7}/{number}.root", b"%d" % number)
    fence(buffer)
    written: list[int] = []
    real = buffer.ledger.put

    def put(rows: Sequence[Row]) -> None:
        rows = list(rows)
        written.append(len(rows))
        real(rows)

    monkeypatch.setattr(buffer.ledger, "put", put)
    seal(buffer)
    assert {state.state for state in outputs(buffer).values()} == {"sealed"}
    assert [size for size in written if size] == [450, 200, 200, 50]


def _raise(*_: object, **__: object) -> None:
    message = "no more"
    raise OSError(message)


def test_sealing_that_ended_without_a_word_has_failed_and_can_be_ordered_again(
    buffer: Buffer,
) -> None:
    leave(buffer, "a")
    fence(buffer)
    buffer.ledger.put_seal(request(), SealState(generation=1, state="running"))
    state = buffer.sealing.state()
    assert state
    assert (state.state, "space of the volume" in (state.error or "")) == ("failed", True)
    seal(buffer)
    assert outputs(buffer)["a"].state == "sealed"


def _damaged(monkeypatch: pytest.MonkeyPatch, name: str, owner: object, part: str) -> None:
    """Let a call fail wherever a path has this part."""
    real = getattr(owner, name)

    def call(path: object, *arguments: object, **named: object) -> object:
        # Directories are read by their descriptors.
        known = Path(f"/proc/self/fd/{path}").resolve() if isinstance(path, int) else Path(os.fsdecode(path))  # type: ignore[arg-type]
        if part in known.parts:
            raise OSError(5, "Input/output error", path)
        return real(path, *arguments, **named)

    monkeypatch.setattr(owner, name, call)


@pytest.mark.parametrize("call", ["scandir", "stat"])
def test_a_damaged_directory_is_told_and_keeps_no_other_file_back(
    buffer: Buffer, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    for path in ("a.root", "bad/b.root", "bad/sub/c.root", "good/d.root"):
        leave(buffer, path)
    fence(buffer)
    with monkeypatch.context() as patch:
        _damaged(patch, call, os, "bad")
        seal(buffer, "**/*.root")
    assert buffer.report().seal == SealState(generation=1, state="done")
    found = outputs(buffer)
    assert {path: state.state for path, state in found.items()} == {
        "a.root": "sealed", "bad": "failed", "good/d.root": "sealed",
    }  # fmt: skip
    assert found["bad"].output == "out", "it counts as none of an output"
    assert "Input/output error" in (found["bad"].error or "")
    seal(buffer, "**/*.root")
    after = {path: state.state for path, state in outputs(buffer).items()}
    assert after.pop("bad") == "skipped"
    assert after == dict.fromkeys(("a.root", "bad/b.root", "bad/sub/c.root", "good/d.root"), "sealed")


def test_a_damaged_directory_that_somebody_removes_stays_told(buffer: Buffer, monkeypatch: pytest.MonkeyPatch) -> None:
    leave(buffer, "a.root")
    bad = leave(buffer, "bad/b.root")
    fence(buffer)
    with monkeypatch.context() as patch:
        _damaged(patch, "scandir", os, "bad")
        seal(buffer)
    bad.unlink()
    bad.parent.rmdir()
    seal(buffer)
    assert outputs(buffer)["bad"].state == "failed"
    assert "an administrator" in (outputs(buffer)["bad"].error or "")


def test_a_second_version_that_somebody_removes_stays_told(buffer: Buffer) -> None:
    """The operator has counted it: an agent that forgets a file is not believed."""
    first = buffer.places.area("publish", CLAIM) / "a.root"
    first.parent.mkdir(parents=True)
    first.write_bytes(b"first")
    second = leave(buffer, "a.root", b"second")
    fence(buffer)
    seal(buffer)
    told = buffer.ledger.every(OutputState).values()
    before = sorted(state.state for state in told)
    assert before == ["failed", "sealed"]
    (error,) = [state.error or "" for state in told if state.state == "failed"]
    assert "spec.teardown.discard" in error
    assert "session runs" not in error, "it is over"
    second.unlink()
    seal(buffer)
    after = {state.state: state for state in buffer.ledger.every(OutputState).values()}
    assert sorted(after) == before
    assert "an administrator" in (after["failed"].error or "")


def test_what_was_set_apart_before_the_fence_and_removed_is_forgotten(buffer: Buffer) -> None:
    state = OutputState(
        version=0, claim=CLAIM, path="a.root", state="failed", bytes=1, output="out", error="another version"
    )
    buffer.ledger.put([output_row(state, b"a.root", "publish")])
    fence(buffer)
    seal(buffer)
    assert not buffer.ledger.every(OutputState)


def test_a_second_version_takes_the_place_of_a_first_one_that_is_gone(buffer: Buffer) -> None:
    first = buffer.places.area("publish", CLAIM) / "a.root"
    first.parent.mkdir(parents=True)
    first.write_bytes(b"first")
    leave(buffer, "a.root", b"second")
    fence(buffer)
    seal(buffer)
    [sealed] = [state for state in buffer.ledger.every(OutputState).values() if state.state == "sealed"]
    buffer.places.on_disk(sealed.store_path or "").unlink()
    for _ in range(3):
        seal(buffer)
        assert sorted(state.state for state in buffer.ledger.every(OutputState).values()) == ["sealed", "skipped"]


@pytest.mark.parametrize(
    ("pattern", "folder", "leads"),
    [
        ("**/*.root", "bad", True),
        ("kept/**", "kept", True),
        ("kept/**", "kept/sub", True),
        ("kept/**", "other", False),
        ("kept/**", ".", True),
        ("*.root", "bad", False),
        ("**", "bad", True),
        ("a*/b/*.root", "ab", True),
        ("a*/b/*.root", "ab/c", False),
    ],
)
def test_an_unread_directory_is_of_the_output_that_takes_files_below_it(
    pattern: str,
    folder: str,
    leads: bool,  # noqa: FBT001
) -> None:
    [rule] = request(pattern).outputs
    assert (rule_below(CLAIM, folder.encode(), [rule]) is not None) is leads


@pytest.mark.parametrize("files", [2, 9])
def test_a_file_that_cannot_be_synced_keeps_no_other_back(
    buffer: Buffer, monkeypatch: pytest.MonkeyPatch, files: int
) -> None:
    for number in range(files):
        leave(buffer, f"{number}.root", b"%d" % number)
    fence(buffer)

    def broken(_: object) -> int:
        ctypes.set_errno(5)
        return -1

    real = os.fsync

    def fsync(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink().name == "1.root":
            raise OSError(5, "Input/output error")
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(places_module._libc, "syncfs", broken)
        patch.setattr(os, "fsync", fsync)
        seal(buffer)
    assert buffer.report().seal == SealState(generation=1, state="done")
    found = outputs(buffer)
    assert found.pop("1.root").state == "failed"
    assert {state.state for state in found.values()} == {"sealed"}
    seal(buffer)
    assert outputs(buffer)["1.root"].state == "sealed"


def test_a_sealed_file_that_cannot_be_read_does_not_end_the_agent(
    places: Places, buffer: Buffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(buffer, "a.root")
    fence(buffer)
    seal(buffer)
    name = Path(outputs(buffer)["a.root"].store_path or "").name
    again = Buffer(places)
    with monkeypatch.context() as patch:
        _damaged(patch, "stat", os, name)
        again.start()
        assert outputs(again)["a.root"].state == "failed"
    seal(again)
    assert outputs(again)["a.root"].state == "sealed"
    again.stop()


class PowerCutError(BaseException):
    """Nothing catches this."""


@pytest.mark.parametrize("step", range(1, 30))
def test_sealing_survives_an_end_at_every_effect(places: Places, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Before effect number ``step`` the agent dies; another one finishes its work."""
    buffer = Buffer(places)
    files = {"a/1.root": b"one", "2.root": b"two"}
    for path, data in files.items():
        leave(buffer, path, data)
    fence(buffer)
    left = [step]

    def dying(effect: object) -> object:
        def act(*arguments: object, **named: object) -> object:
            left[0] -= 1
            if left[0] == 0:
                raise PowerCutError
            return effect(*arguments, **named)  # type: ignore[operator]

        return act

    order = request()
    buffer.ledger.put_seal(order, SealState(generation=1, state="running"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "link", dying(os.link))
        patch.setattr(os, "setxattr", dying(os.setxattr))
        for name in ("chmod", "unlink", "mkdir"):
            patch.setattr(Path, name, dying(getattr(Path, name)))
        patch.setattr(buffer.ledger, "put", dying(buffer.ledger.put))
        try:
            buffer.sealing.run(order)
        except PowerCutError:
            died = True
        else:
            died = False
    assert died or step > 15, "the test reaches every effect"
    buffer.ledger.close()
    again = Buffer(places)
    again.start()
    again.sealing.join()
    assert again.report().seal == SealState(generation=1, state="done")
    for path, data in files.items():
        state = outputs(again)[path]
        assert state.state == "sealed"
        target = places.on_disk(state.store_path or "")
        assert target.read_bytes() == data
        assert target.stat().st_nlink == 1
        assert target.stat().st_mode & 0o7777 == 0o444
        assert checksum.remembered(target) == adler32(data) == state.adler32
    again.stop()


def test_a_lost_ledger_is_made_anew_from_the_disk(places: Places, buffer: Buffer) -> None:
    leave(buffer, "a/1.root", b"one")
    fence(buffer)
    seal(buffer)
    before = outputs(buffer)["a/1.root"]
    buffer.ledger.close()
    for file in places.control.glob("ledger.sqlite*"):
        file.unlink()
    again = Buffer(places)
    assert again.report().seal is None
    seal(again)
    assert outputs(again)["a/1.root"].model_copy(update={"version": before.version}) == before


def test_names_of_a_template_are_sealed_where_rucio_looks_and_found_again(places: Places, buffer: Buffer) -> None:
    template = "/store/{kind}/rucio/{owner}/{record}/{output}/{path}"
    [rule] = request().outputs
    order = request().model_copy(
        update={"outputs": [rule.model_copy(update={"template": template, "layout": "identity"})]}
    )
    leave(buffer, "a/1.root", b"one")
    fence(buffer)
    buffer.sealing.order(order)
    buffer.sealing.join()
    before = outputs(buffer)["a/1.root"]
    assert before.name == f"/store/user/rucio/alice/{RECORD}/out/a--1.root"
    assert before.store_path == f"/store/user/alice{before.name}"
    assert places.on_disk(before.store_path).read_bytes() == b"one"
    buffer.ledger.close()
    for file in places.control.glob("ledger.sqlite*"):
        file.unlink()
    again = Buffer(places)
    again.sealing.order(order)
    again.sealing.join()
    assert outputs(again)["a/1.root"].model_copy(update={"version": before.version}) == before
