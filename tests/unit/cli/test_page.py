"""The page of the command line: what it shows is run, and what is made is made anew."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.unit.cli.api_server import try_classes
from tests.unit.cli.conftest import Vrse
from tests.unit.reconcile.small_world import REQUEST, Small
from volatile_rse.cli.commands import vrse as group
from volatile_rse.cli.reference import with_reference
from volatile_rse.domain.identity import identify

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "cli.md").read_text()
BLOCKS = re.findall(r"^```console\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
RECORD = "abcdefghij"
"""Of the page's session."""


def test_the_reference_is_what_the_commands_say() -> None:
    assert with_reference(PAGE) == PAGE, "run `make generate`"


def test_there_are_examples_of_each_command_that_they_can_be_of() -> None:
    shown = {word for block in BLOCKS for word in re.findall(r"^\$ vrse ([a-z]+)", block, re.MULTILINE)}
    # A person is asked by one, a shell reads what the next prints; a buffer or an operator is asked by the others.
    assert shown == set(group.commands) - {"discard", "completion", "fetch", "lease", "admin"}


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_the_examples_say_what_the_page_shows(block: str, small: Small, vrse: Vrse) -> None:
    small.catalogue.now = small.clock.now
    if "$ vrse doctor" in block:
        try_classes(small)
    for example in re.split(r"^\$ vrse ", block, flags=re.MULTILINE)[1:]:
        command, expected = example.split("\n", 1)
        done = vrse(*shlex.split(command))
        assert done.code == 0, done.err
        body = small.cluster.get(REQUEST)
        if body is not None:
            small.record_id = identify(small.settings.instance, body["metadata"]["uid"]).record_id
            expected = expected.replace(RECORD.upper(), small.record_id.upper()).replace(RECORD, small.record_id)
        assert (done.out or done.err) == expected
