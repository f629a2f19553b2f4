"""Inputs that Rucio has where nothing can be read: on tape, and inside archives."""

from __future__ import annotations

import pytest

from tests.unit.reconcile.small_world import REQUEST, Small
from volatile_rse.domain.catalogue import Did, File

IN = Did("user.alice", "in")
TAPED = [File(Did("user.alice", f"taped.{number}"), 10 + number, f"1000000{number}") for number in range(2)]
ARCHIVE = File(Did("user.alice", "many.zip"), 99, "20000000")
INSIDE = File(Did("user.alice", "inside"), 9, "20000001")


def asking(percent: int = 100) -> Small:
    """Ask for two files on disk, and for what a test has added to them."""
    small = Small()
    small.request(inputs=[{"name": "in", "did": str(IN), "minimumPercent": percent}])
    return small


def taped(small: Small, columns: dict[str, object], attributes: dict[str, str]) -> None:
    small.catalogue.add_permanent("SITE-T", "site-a.example.org", attributes)
    small.catalogue.alter("SITE-T", **columns)
    small.catalogue.add_files(IN, "SITE-T", TAPED)


TAPES = pytest.mark.parametrize(
    ("columns", "attributes"),
    [({"tape": True}, {}), ({}, {"staging_required": "True"})],
    ids=["type", "attribute"],
)


@TAPES
def test_what_is_on_tape_only_is_told_with_what_to_do_and_read_once_it_is_on_disk(
    columns: dict[str, object], attributes: dict[str, str]
) -> None:
    small = asking()
    taped(small, columns, attributes)
    small.until(lambda: small.condition("Stalled").get("reason") == "OnTape")
    said = small.condition("Stalled")["message"]
    assert "2 of 4 files are on tape only, for example user.alice:taped.0 at SITE-T" in said
    assert "USER must act" in said
    assert "rucio rule add" in said
    assert not small.cluster.list("Pod", "bufs")
    small.catalogue.add_files(IN, "SITE-B", TAPED)
    small.until(small.has_session, 120)
    assert not [url for file in small.buffer._manifest.inputs for url in file.sources if "site-t" in url]  # type: ignore[union-attr]


@TAPES
def test_a_copy_on_disk_is_read_beside_one_on_tape(columns: dict[str, object], attributes: dict[str, str]) -> None:
    small = asking()
    taped(small, columns, attributes)
    small.catalogue.alter("SITE-T", host="site-t.example.org")
    small.catalogue.add_files(IN, "SITE-B", TAPED)
    small.until(small.has_session)
    assert small.buffer._manifest is not None
    assert {len(file.sources) for file in small.buffer._manifest.inputs} == {1}


def test_files_on_tape_keep_no_others_back_and_are_named() -> None:
    small = asking(50)
    taped(small, {"tape": True}, {})
    small.until(small.has_session)
    small.until(lambda: "on tape" in small.condition("InputsStaged").get("message", ""))
    said = small.condition("InputsStaged")["message"]
    assert "/taped.0: Rucio has it on tape only, at SITE-T" in said
    assert small.buffer.report().inputs[0].staged == 2


def test_an_agent_of_before_is_not_sent_what_it_does_not_know() -> None:
    small = asking(50)
    small.buffer.knows = ["outputs", "continuous", "sourceless"]
    taped(small, {"tape": True}, {})
    small.until(small.has_session)
    assert small.buffer._manifest is not None
    assert not any(file.barred for file in small.buffer._manifest.inputs)


def test_what_is_inside_an_archive_is_told_with_the_archive() -> None:
    small = asking()
    small.catalogue.add_archive(IN, "SITE-A", ARCHIVE, [INSIDE])
    small.until(lambda: small.condition("Stalled").get("reason") == "InArchive")
    said = small.condition("Stalled")["message"]
    assert "1 of 4 files are inside archives, for example user.alice:inside in davs://site-a.example.org:8443/" in said
    assert "/many.zip" in said
    assert "Name the archive itself" in said
    small.catalogue.add_files(IN, "SITE-B", [INSIDE])
    small.until(small.has_session, 120)


def test_what_is_inside_an_archive_keeps_no_others_back() -> None:
    small = asking(75)
    small.catalogue.add_archive(IN, "SITE-A", ARCHIVE, [INSIDE])
    small.until(small.has_session)
    small.until(lambda: "archive" in small.condition("InputsStaged").get("message", ""))
    assert "/inside: Rucio has it inside the archive davs://" in small.condition("InputsStaged")["message"]
    assert small.buffer.report().inputs[0].staged == 3


def test_each_reason_is_told_of_its_own_files() -> None:
    small = asking()
    taped(small, {"tape": True}, {})
    small.catalogue.add_archive(IN, "SITE-A", ARCHIVE, [INSIDE])
    small.catalogue.lose("SITE-A", Did("user.alice", "in.0"))
    small.until(lambda: small.condition("Stalled").get("reason") == "OnTape")
    said = small.condition("Stalled")["message"]
    assert "2 of 6 files are on tape only" in said
    small.delete()
    small.until(lambda: small.cluster.get(REQUEST) is None)
