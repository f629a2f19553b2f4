"""The session's list of inputs on the buffer."""

from __future__ import annotations

import json

from tests.unit.agent.conftest import Site, input_file, manifest
from volatile_rse.agent.buffer import Buffer
from volatile_rse.api.agent import Listing, Manifest

PATH = "/store/user/alice/.inputs-abcdefghij.jsonl"


def order(site: Site, *names: str) -> Manifest:
    files = [input_file(site, name.encode(), name) for name in names]
    listing = Listing(path=PATH, root="root://buffer:1094")
    return manifest(site, *files).model_copy(update={"listing": listing})


def test_the_list_is_there_with_the_manifest_and_says_where_each_file_is(buffer: Buffer, site: Site) -> None:
    work = order(site, "a.root", "b.root")
    buffer.take(work)
    assert buffer.report().manifest == work.digest
    assert "listing" in buffer.report().knows
    path = buffer.places.on_disk(PATH)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["did"], line["inputs"], line["bytes"]) for line in lines] == [
        ("user.alice:a.root", ["data"], 6), ("user.alice:b.root", ["data"], 6),
    ]  # fmt: skip
    assert lines[0]["url"] == "root://buffer:1094//store/user/alice/a.root"
    assert lines[0]["adler32"] == work.inputs[0].adler32
    assert path.stat().st_mode & 0o7777 == 0o444
    before = path.stat().st_ino
    buffer.take(work)
    assert path.stat().st_ino == before, "what is right is not written again"
    buffer.take(order(site, "a.root"))
    assert len(path.read_text().splitlines()) == 1


def test_a_list_that_cannot_be_written_keeps_no_work_back(buffer: Buffer, site: Site) -> None:
    path = buffer.places.on_disk(PATH)
    path.mkdir(parents=True)
    work = order(site, "a.root")
    buffer.take(work)
    assert buffer.report().manifest == work.digest
    assert path.is_dir()
