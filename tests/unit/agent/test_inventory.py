from __future__ import annotations

import pytest

from tests.unit.agent.conftest import CLAIM, fence, leave, manifest, seal, until
from tests.unit.agent.conftest import Site as _Site
from volatile_rse.agent.buffer import Buffer
from volatile_rse.api.agent import OutputRule


def rules(*patterns: str) -> list[OutputRule]:
    return [
        OutputRule(claim=CLAIM, name=f"o{n}", patterns=[pattern], scope="user.alice", dataset="user.alice.out")
        for n, pattern in enumerate(patterns)
    ]


def told(buffer: Buffer) -> dict[str | None, tuple[int, int, int]]:
    return {total.name: (total.files, total.bytes, total.open) for total in buffer.report().outputs}


@pytest.fixture
def watched(buffer: Buffer, site: _Site) -> Buffer:
    # The test alone says when to look.
    buffer.inventory.stop()
    buffer.take(manifest(site).model_copy(update={"outputs": rules("plots/**", "*.root")}))
    return buffer


def test_what_is_written_is_told_while_the_session_runs(watched: Buffer) -> None:
    leave(watched, "plots/a.png", b"12")
    leave(watched, "h.root", b"345")
    leave(watched, "notes.txt", b"6")
    leave(watched, ".ipynb_checkpoints/n.root", b"none")
    torn = leave(watched, "big.root", b"78")
    torn.chmod(0o1600)
    before = watched.report().version
    watched.inventory.look()
    assert told(watched) == {"o0": (1, 2, 0), "o1": (2, 5, 1), None: (1, 1, 0)}
    assert watched.report().unmatched == ["notes.txt"]
    assert watched.report().version != before
    watched.inventory.look()
    assert watched.report().version == before + 1
    torn.chmod(0o600)
    torn.unlink()
    watched.inventory.look()
    assert told(watched)["o1"] == (1, 3, 0)


def test_what_lies_in_the_publish_directory_is_told_as_well(watched: Buffer) -> None:
    folder = watched.places.area("publish", CLAIM)
    leave(watched, "notes.txt", b"6").rename(folder / "notes.txt")
    leave(watched, "h.root", b"345").rename(folder / "h.root")
    leave(watched, "x.swp", b"none").rename(folder / "x.swp")
    with (folder / "h.root").open("ab"):
        watched.inventory.look()
    assert told(watched) == {"o1": (1, 3, 1), None: (1, 1, 0)}
    assert watched.report().unmatched == ["publish/notes.txt"]
    # Out of its session's reach, and not sealed yet.
    taken = watched.places.area("taken", CLAIM)
    taken.mkdir(parents=True)
    (folder / "h.root").rename(taken / "h.root")
    watched.inventory.look()
    assert told(watched) == {"o1": (1, 3, 0), None: (1, 1, 0)}


def test_a_whole_file_that_is_being_changed_is_open(watched: Buffer) -> None:
    path, closed = leave(watched, "plots/a.png", b"12"), leave(watched, "plots/b.png", b"34")
    with path.open("r+b") as stream, closed.open("rb"):
        stream.write(b"3")
        watched.inventory.look()
        assert told(watched)["o0"] == (2, 4, 1)
    closed.chmod(0)
    watched.inventory.look()
    assert told(watched)["o0"] == (2, 4, 0)


def test_the_look_is_taken_without_being_asked_and_ends_with_the_rules(buffer: Buffer, site: _Site) -> None:
    leave(buffer, "first.txt")
    buffer.inventory.take([CLAIM], rules("*.root"))
    until(lambda: buffer.report().unmatched == ["first.txt"])
    buffer.take(manifest(site))
    assert buffer.report().unmatched == []


def test_after_the_inventory_the_ledger_alone_is_told(watched: Buffer) -> None:
    leave(watched, "h.root")
    leave(watched, "notes.txt")
    leave(watched, "x.swp")
    watched.inventory.look()
    fence(watched)
    seal(watched, "*.root")
    assert {total.name: (total.files, total.sealed) for total in watched.report().outputs} == {
        "out": (1, 1),
        None: (1, 0),
    }
    assert watched.report().unmatched == ["notes.txt"]
    assert {total.open for total in watched.report().outputs} == {0}


def test_a_tree_that_changes_under_the_look_is_no_error(watched: Buffer, monkeypatch: pytest.MonkeyPatch) -> None:
    leave(watched, "plots/a.png")
    folder = leave(watched, "plots/deep/b.png").parent
    from volatile_rse.agent import outbox  # noqa: PLC0415 (patched here alone)

    real = outbox._status

    def vanishing(root: int, name: bytes) -> object:
        for path in folder.glob("*"):
            path.unlink()
        if folder.exists():
            folder.rmdir()
        return real(root, name)

    monkeypatch.setattr(outbox, "_status", vanishing)
    watched.inventory.look()
    assert told(watched)["o0"][0] == 1
