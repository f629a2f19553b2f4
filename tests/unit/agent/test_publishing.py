from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.agent.conftest import CLAIM, RECORD, Site, adler32, fence, leave, manifest, seal, until
from volatile_rse.agent import checksum
from volatile_rse.agent import publishing as publishing_module
from volatile_rse.agent.buffer import Buffer
from volatile_rse.agent.outbox import is_written
from volatile_rse.agent.places import Places
from volatile_rse.api.agent import Manifest, OutputRule, OutputState


def order(site: Site) -> Manifest:
    rules = [
        OutputRule(claim=CLAIM, name=name, patterns=[pattern], scope="user.alice", dataset="user.alice.out")
        for name, pattern in (("out", "*.root"), ("late", "*.txt"))
    ]
    later = {"outputs": rules, "continuous": ["out"], "record_id": RECORD}
    return manifest(site).model_copy(update=later)


@pytest.fixture
def publishing(places: Places, site: Site) -> Iterator[Buffer]:
    """Look only when the test says so."""
    made = Buffer(places)
    made.take(order(site))
    yield made
    made.stop()


def publish(buffer: Buffer, path: str, data: bytes = b"result") -> Path:
    target = buffer.places.area("publish", CLAIM) / path
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir():
        target.rmdir()
    return leave(buffer, "being moved", data).rename(target)


def outputs(buffer: Buffer) -> dict[bytes, OutputState]:
    return buffer.ledger.every(OutputState)


def test_what_is_published_is_sealed_while_the_session_runs(publishing: Buffer) -> None:
    source = publish(publishing, "h.root")
    left = leave(publishing, "g.root")
    publishing.publishing.look()
    [state] = outputs(publishing).values()
    assert (state.path, state.state, state.output, state.adler32) == ("h.root", "sealed", "out", adler32(b"result"))
    assert not source.exists()
    assert left.exists()
    path = publishing.places.on_disk(state.store_path or "")
    assert path.read_bytes() == b"result"
    assert path.stat().st_mode & 0o7777 == 0o444
    assert path.stat().st_nlink == 1
    publishing.inventory.look()
    [total] = publishing.report().outputs
    assert (total.files, total.sealed, total.bytes, publishing.report().seal) == (2, 1, 12, None)


def test_it_happens_without_being_asked(buffer: Buffer, site: Site) -> None:
    buffer.take(order(site))
    publish(buffer, "h.root")
    until(lambda: [state.state for state in outputs(buffer).values()] == ["sealed"])


def test_only_whole_files_of_continuous_outputs_are_taken(publishing: Buffer) -> None:
    torn = publish(publishing, "torn.root")
    torn.chmod(0o1600)
    others = [publish(publishing, path) for path in ("notes.txt", "other.bin", ".~h.root")]
    publishing.publishing.look()
    assert not outputs(publishing)
    assert all(path.exists() for path in (torn, *others))
    publishing.inventory.look()
    told = {total.name: (total.files, total.open) for total in publishing.report().outputs}
    assert told == {"out": (1, 1), "late": (1, 0), None: (1, 0)}
    assert publishing.report().unmatched == ["publish/other.bin"]
    torn.chmod(0o600)
    publishing.publishing.look()
    assert [state.path for state in outputs(publishing).values()] == ["torn.root"]


def test_a_file_that_is_still_open_to_write_is_out_of_reach_and_waits(publishing: Buffer) -> None:
    source = publish(publishing, "h.root")
    with source.open("ab") as stream:
        assert is_written(source)
        publishing.publishing.look()
        assert not source.exists()
        assert not outputs(publishing)
        stream.write(b" and more")
    publishing.publishing.look()
    [state] = outputs(publishing).values()
    assert (state.state, state.adler32) == ("sealed", adler32(b"result and more"))


def failures(buffer: Buffer) -> list[tuple[str, str]]:
    return [(failure.what, failure.error) for failure in buffer.report().failures]


@pytest.mark.parametrize(("first", "second"), [("a.root", "a.root/b.root"), ("a.root/b.root", "a.root")])
def test_a_path_that_another_one_blocks_waits_is_told_and_keeps_no_other_back(
    publishing: Buffer, first: str, second: str
) -> None:
    publishing.take(anything(publishing))
    with publish(publishing, first).open("ab"):
        publishing.publishing.look()
        waits = publish(publishing, second)
        publish(publishing, "z.root")
        publishing.publishing.look()
        assert waits.exists()
        assert [(state.path, state.state) for state in outputs(publishing).values()] == [("z.root", "sealed")]
        [(what, error)] = failures(publishing)
        assert what == f"agent: publish/{CLAIM}"
        assert error.startswith(f"{second}: a published file that is still open to write is in its way: USER must")
    publishing.publishing.look()
    publishing.publishing.look()
    assert {state.path: state.state for state in outputs(publishing).values()} == dict.fromkeys(
        (first, second, "z.root"), "sealed"
    )
    assert failures(publishing) == []


def anything(buffer: Buffer) -> Manifest:
    """Let the rule take whatever is published."""
    made = buffer._manifest
    assert made
    return made.model_copy(update={"outputs": [made.outputs[0].model_copy(update={"patterns": ["**"]})]})


def test_what_cannot_be_taken_now_keeps_no_other_back(publishing: Buffer, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(publishing, "a.root")
    publish(publishing, "b.root")
    publish(publishing, "c.root")
    real = Path.rename

    def rename(path: Path, target: Path) -> Path:
        if path.name == "a.root":
            raise OSError(errno.ENOSPC, "No space left on device")
        if path.name == "b.root":
            path.unlink()
        return real(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename)
        publishing.publishing.look()
    assert [state.path for state in outputs(publishing).values()] == ["c.root"]
    [(_, error)] = failures(publishing)
    assert error.startswith("a.root: [Errno 28] No space left on device: USER must delete")
    publishing.publishing.look()
    assert sorted(state.path for state in outputs(publishing).values()) == ["a.root", "c.root"]
    assert failures(publishing) == []


def test_where_it_cannot_be_told_whether_a_file_is_written_the_end_takes_it(
    publishing: Buffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.root", "b.root"):
        publish(publishing, name)
    monkeypatch.setattr(publishing_module, "is_written", lambda _: None)
    publishing.publishing.look()
    assert not outputs(publishing)
    [(_, error)] = failures(publishing)
    assert "it is taken when the session ends, and 1 others wait" in error
    fence(publishing)
    publishing.publishing.look()
    assert failures(publishing) == []
    seal(publishing, "*.root")
    assert {state.state for state in outputs(publishing).values()} == {"sealed"}


def test_a_path_is_published_once(publishing: Buffer) -> None:
    publish(publishing, "h.root")
    publishing.publishing.look()
    second = publish(publishing, "h.root", b"another")
    publishing.publishing.look()
    publishing.publishing.look()
    [first, told] = sorted(outputs(publishing).values(), key=lambda state: state.state, reverse=True)
    assert (first.state, first.adler32) == ("sealed", adler32(b"result"))
    assert told.state == "failed"
    assert "USER must give it another name" in (told.error or "")
    assert second.read_bytes() == b"another"
    publishing.inventory.look()
    assert [(total.files, total.failed) for total in publishing.report().outputs] == [(2, 1)]
    second.rename(second.with_name("i.root"))
    publishing.publishing.look()
    assert sorted((state.path, state.state) for state in outputs(publishing).values()) == [
        ("h.root", "sealed"),
        ("i.root", "sealed"),
    ]


def test_the_inventory_takes_what_is_left_and_no_second_version(publishing: Buffer) -> None:
    publish(publishing, "h.root")
    publishing.publishing.look()
    publish(publishing, "late.root")
    second = leave(publishing, "h.root", b"another")
    fence(publishing)
    publishing.publishing.look()
    assert len(outputs(publishing)) == 1
    seal(publishing, "*.root")
    seal(publishing, "*.root")
    assert {key: state.state for key, state in outputs(publishing).items()} == {
        f"{CLAIM}/h.root".encode(): "sealed",
        f"{CLAIM}/late.root".encode(): "sealed",
        f"{CLAIM}//outbox/h.root".encode(): "failed",
    }
    assert second.read_bytes() == b"another"


def test_an_agent_that_dies_after_taking_a_file_takes_it_again(
    publishing: Buffer, places: Places, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(publishing, "h.root")
    with monkeypatch.context() as patch:
        patch.setattr(checksum, "of_file", _dies)
        with pytest.raises(KeyboardInterrupt):
            publishing.publishing.look()
    publishing.stop()
    again = Buffer(places)
    again.take(order(site))
    again.publishing.look()
    assert [state.state for state in outputs(again).values()] == ["sealed"]
    again.stop()


def _dies(*_: object) -> int:
    raise KeyboardInterrupt


def test_what_is_not_there_any_more_does_not_count_as_sealed(publishing: Buffer, places: Places) -> None:
    publish(publishing, "h.root")
    publishing.publishing.look()
    [state] = outputs(publishing).values()
    places.on_disk(state.store_path or "").unlink()
    publishing.stop()
    again = Buffer(places)
    again.start()
    [state] = outputs(again).values()
    assert state.state == "failed"
    assert "find out what removed it" in (state.error or "")
    again.stop()
