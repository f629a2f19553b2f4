"""Every command that a page shows is executed by a test, or it is said why none executes it."""

from __future__ import annotations

import re
import shlex
from collections import Counter

import click
import pytest

from testbed.layout import CHECKOUT
from tests import commands
from tests.commands import NOT_EXECUTED, Shown
from volatile_rse.cli.commands import vrse

SHOWN = [each for page in commands.pages() for each in commands.shown(page)]
LISTED = list(commands.listed())
BY_PROGRAM = [each for each in SHOWN if not each.is_block and each.text.startswith(("vrse ", "make "))]
"""They are compared with what the program itself takes."""


def test_each_command_is_executed_or_it_is_said_why_not() -> None:
    known = {name for _, name in LISTED}
    missing = [f"{each.page}: {each.name}" for each in SHOWN if each not in BY_PROGRAM and each.name not in known]
    assert not missing, "have a test execute it, and name both in tests/commands.txt; or say there why none can"


def test_no_command_is_listed_twice_or_stands_on_no_page() -> None:
    assert [name for name, times in Counter(name for _, name in LISTED).items() if times > 1] == []
    assert {name for _, name in LISTED} - {each.name for each in SHOWN} == set()


@pytest.mark.parametrize("module", sorted({where for where, _ in LISTED if not where.startswith(NOT_EXECUTED)}))
def test_the_test_of_a_command_reads_its_page(module: str) -> None:
    text = (CHECKOUT / module).read_text()
    if "commands.listed()" in text:  # it takes them from there, whatever page they are on
        return
    names = {name for where, name in LISTED if where == module}
    pages = {name: {each.page.rpartition("/")[2] for each in SHOWN if each.name == name} for name in names}
    assert not {name for name, where in pages.items() if not any(page in text for page in where)}


def test_what_a_command_names_of_the_repository_is_there() -> None:
    places = re.compile(
        r"(?<![\w./-])(?:charts|crds|docs|examples|gitops|images|manifests|requirements|tests)/[\w./-]*+(?!\$)"
    )
    named = {place for each in SHOWN for place in places.findall(each.text)}
    assert len(named) > 20
    assert not {place for place in named if not (CHECKOUT / place).exists()}


@pytest.mark.parametrize("each", [each for each in BY_PROGRAM if each.text.startswith("make ")], ids=lambda it: it.text)
def test_make_knows_what_a_page_has_it_do(each: Shown) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))
    assert {word for word in each.text.split()[1:] if "=" not in word} <= targets


@pytest.mark.parametrize("each", [each for each in BY_PROGRAM if each.text.startswith("vrse ")], ids=lambda it: it.text)
def test_the_command_line_takes_what_a_page_shows_of_it(each: Shown) -> None:
    """The words are commands, and the options theirs; what stands for a name is not looked at."""
    command: click.Command = vrse
    words = shlex.split(each.text)[1:]
    while isinstance(command, click.Group) and words:
        found = command.commands.get(words.pop(0))
        assert found, each.page
        command = found
    options = {option for parameter in command.params for option in parameter.opts}
    assert {word.partition("=")[0] for word in words if word.startswith("-")} <= options | {"-h", "--help"}
