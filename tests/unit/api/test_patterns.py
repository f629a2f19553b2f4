"""What a path of an output takes is what bash and find make of it; what is no glob is refused in words that help."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volatile_rse.api.agent import OutputRule, rule_of
from volatile_rse.api.patterns import Reach, fault_of_pattern, leads_below, leaves_outbox, reach_of
from volatile_rse.api.volatilerse import VolatileRSESpec

FILES = (
    "a", "b", "ab", "abc", ".a", "-x", "a.root", "b.h5", "with space", "[a]", "x{y}", "q?", "ü.root",
    "h/a.root", "h/b.h5", "h/.hidden", "h/a/b/c", "h/ab/a", "h/d.root/part", "run1/a", "run02/a", "run1/h/a.root",
    ".h/a", "Z/a",
)  # fmt: skip


def taken(pattern: str) -> set[str]:
    return {path for path in FILES if reach_of(pattern, path)}


@pytest.mark.parametrize(
    ("pattern", "path", "reach"),
    [
        ("**/*.root", "f.root", Reach.WHOLE),
        ("**/*.root", "a/b/f.root", Reach.WHOLE),
        ("*.root", "a/f.root", Reach.NO),
        ("a/**", "a/b/c", Reach.WHOLE),
        ("a/**", "a", Reach.NO),
        ("a?c", "abc", Reach.WHOLE),
        ("a?c", "a/c", Reach.NO),
        ("a.c", "abc", Reach.NO),
        ("h", "h", Reach.WHOLE),
        ("h", "h/a/b", Reach.WHOLE),
        ("h", "hh/a", Reach.NO),
        ("h/", "h", Reach.NO),
        ("h/", "h/a/b", Reach.WHOLE),
        ("h/.", "h/a", Reach.WHOLE),
        ("h//", "h/a", Reach.WHOLE),
        ("./h/**", "h/a", Reach.WHOLE),
        ("././/h/./**/", "h/a", Reach.WHOLE),
        ("h//**", "h/a/b", Reach.WHOLE),
        (".", "h/a", Reach.WHOLE),
        ("./", "a", Reach.WHOLE),
        ("**/**", "a/b", Reach.WHOLE),
        ("h/**/x", "h/x", Reach.WHOLE),
        ("**/h", "a/h/b", Reach.WHOLE),
        ("*.{root,h5}", "a.h5", Reach.WHOLE),
        ("*.{root,h5}", "a.txt", Reach.NO),
        ("{h,k/{l,m}}", "k/m/a", Reach.WHOLE),
        ("run{1..3}", "run2/a", Reach.WHOLE),
        ("run{08..10}", "run09/a", Reach.WHOLE),
        ("run{08..10}", "run9/a", Reach.NO),
        ("run{c..a}", "runb", Reach.WHOLE),
        ("[a-z]*", "q.root", Reach.WHOLE),
        ("[a-z]*", "Q.root", Reach.NO),
        ("[a]", "[a]", Reach.NO),
        (r"\[a]", "[a]", Reach.WHOLE),
        ("[!a]", "b", Reach.WHOLE),
        ("[^a]", "a", Reach.NO),
        ("[]a]", "]", Reach.WHOLE),
        ("[a-]", "-", Reach.WHOLE),
        ("[[:digit:]x]", "7", Reach.WHOLE),
        (r"[\]]", "]", Reach.WHOLE),
        (r"a\ ", "a ", Reach.WHOLE),
        ("with space/*", "with space/a", Reach.WHOLE),
        (r"\{a\}", "{a}", Reach.WHOLE),
        ("*", ".a", Reach.WHOLE),
        ("a.+^b", "a.+^b", Reach.WHOLE),
        ("run*", "run1/a", Reach.BELOW),
        ("run*/", "run1/a", Reach.WHOLE),
        ("run*/", "run1", Reach.NO),
        ("*", "a\nb", Reach.WHOLE),
        ("a\tb", "a\tb", Reach.WHOLE),
        ("a", r"\xff", Reach.NO),
        ("**", "a", Reach.WHOLE),
    ],
)
def test_what_a_pattern_takes(pattern: str, path: str, reach: Reach) -> None:
    assert fault_of_pattern(pattern) == ""
    assert not leaves_outbox(pattern)
    assert reach_of(pattern, path) is reach


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        (" h", "blank"), ("h ", "blank"), ("h\n", "blank"), ("a\nb", "one line"), ("a\x00", "one line"),
        ("**.root", "**/*.root"), ("a**", "**/*.root"), ("***", "**/*.root"),
        ("[a", r"\["), ("[a/b]", r"\["), ("[", r"\["), ("[z-a]", "a-z"), ("[[=a=]]", "[:alpha:]"),
        ("[[:nothing:]]", "[:alpha:]"), ("[[:alpha]", "[:alpha:]"),
        ("{a,b", r"\{"), ("a}", r"\}"), ("{a}", "{a,b}"), ("{a..b,c", r"\{"), ("{1..x}", "{1..5}"), ("{}", "{a,b}"),
        ("{1..129}", "128"), ("{a,b}" * 8, "128"), ("{0..999999999}", "128"),
        ("$VRSE_OUTBOX/h", "below the outbox"), ("'h/**'", "below the outbox"), ('"h"', r"\""), ("`h`", r"\`"),
        ("*.root;*.h5", r"\;"), ("*.root|*.h5", r"\|"), ("@(a|b)", r"\("), ("!(a)", r"\("),
        ("*.root *.h5", "{*.root,*.h5}"), ("*.root, *.h5", "{*.root,*.h5}"), ("*.root,*.h5", "{*.root,*.h5}"),
        ("~/h", r"\~"), ("!h", r"\!"), ("{,}", "nothing"),
        (r"h\a", "divided by '/'"), ("h\\", "divided by '/'"), (r"[\d]", "divided by '/'"),
    ],
)  # fmt: skip
def test_what_is_no_glob_is_refused_and_said_how_to_write(pattern: str, said: str) -> None:
    assert said in fault_of_pattern(pattern)
    assert not leaves_outbox(pattern)
    assert not taken(pattern)


@pytest.mark.parametrize(
    "pattern", ["/h", "..", "../h", "a/../../h", "a/..", "{..,a}/x", "{/,a}x", r"\.\./x", "root://host//outbox", "//h"]
)
def test_what_leaves_the_outbox(pattern: str) -> None:
    assert leaves_outbox(pattern)
    assert fault_of_pattern(pattern) == ""
    assert not taken(pattern)


@pytest.fixture(scope="module")
def outbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("outbox")
    for path in FILES:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("")
    return root


_FIND = """
shopt -s globstar dotglob nullglob globskipdots
eval "for word in $1; do find \\"./\\$word\\" -type f -printf '%i\\n' 2>/dev/null; done"
"""


def found_by_bash(outbox: Path, pattern: str) -> set[str]:
    """Expand a pattern as bash does, and find what is there."""
    command = ["bash", "-c", _FIND, "bash", pattern]
    env = {"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"}
    told = subprocess.run(command, cwd=outbox, env=env, capture_output=True, check=False)
    inodes = {(outbox / path).stat().st_ino: path for path in FILES}
    return {inodes[int(line)] for line in told.stdout.split()}


_NAMES = st.lists(
    st.sampled_from(
        ["a", "b", "h", ".", "*", "?", "[ab]", "[!a]", "[a-h]*", "{a,b}", "{,.}a", "{h,run{1..3}}", "root"]
    ),
    min_size=1,
    max_size=3,
).map("".join)
_PATTERNS = (
    st.lists(st.one_of(st.just("**"), st.just(""), st.just("."), _NAMES), min_size=1, max_size=4)
    .map("/".join)
    # Of "**/" before nothing, "." or "/" bash makes directories alone, without the outbox itself.
    .filter(lambda text: not re.search(r"\*\*/[./]*(/|$)", text))
    .filter(lambda text: text and not fault_of_pattern(text) and not leaves_outbox(text))
)


@settings(max_examples=60, deadline=None)
@given(pattern=_PATTERNS)
def test_a_pattern_takes_what_bash_and_find_make_of_it(outbox: Path, pattern: str) -> None:
    assert taken(pattern) == found_by_bash(outbox, pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        r"with\ space",
        r"\[a]",
        r"x\{y\}",
        r"q\?",
        "ü*",
        "[[:alpha:]]",
        "h/[[:lower:]].root",
        "-x",
        "run{01..3}",
        "run{1..3}/a",
    ],
)
def test_escapes_classes_and_ranges_are_those_of_bash(outbox: Path, pattern: str) -> None:
    assert found_by_bash(outbox, pattern) == taken(pattern) != set()


@settings(max_examples=200, deadline=None)
@given(text=st.text(st.sampled_from("ab*?[]{},/\\.!-~ $ü:^.1"), max_size=20), path=st.sampled_from(FILES))
def test_whatever_is_written_is_a_pattern_or_refused_and_never_an_error(text: str, path: str) -> None:
    refused = fault_of_pattern(text) or leaves_outbox(text)
    assert not refused or not reach_of(text, path)


@settings(max_examples=60, deadline=None)
@given(pattern=_PATTERNS, path=st.sampled_from(FILES))
def test_what_may_take_a_file_is_known_of_every_directory_above_it(pattern: str, path: str) -> None:
    if reach_of(pattern, path):
        parts = path.split("/")
        assert all(leads_below(pattern, "/".join(parts[:at])) for at in range(len(parts)))


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*a" * 127 + "x", "a" * 255),
        ("*[ab]" * 51, "a" * 254 + "c"),
        ("**/" * 84 + "x", "a/" * 255 + "a"),
        ("**/a/" * 50 + "x", "a/" * 1000 + "a"),
        ("{,b}" * 7 + "**/*a*/" * 30 + "x", "a/" * 1000 + "a"),
        ("{" * 127 + "," * 127, "a"),
        ("{,{" * 80, "a"),
        ("{a," * 60 + "b" + "}" * 60, "c"),
        ("[" * 255, "a"),
    ],
)
def test_no_pattern_keeps_anybody_busy(pattern: str, path: str) -> None:
    begun = time.process_time()
    assert reach_of(pattern[:255], path) is Reach.NO
    assert time.process_time() - begun < 2


def rule(name: str, *patterns: str, claim: str = "c1") -> OutputRule:
    return OutputRule(claim=claim, name=name, patterns=list(patterns), scope="user.alice", dataset="out")


@pytest.mark.parametrize(
    ("patterns", "path", "name"),
    [
        (("*.root", "**"), "a.root", "0"),
        (("*.root", "**"), "h/a.root", "1"),
        (("h", "**"), "h/a", "0"),
        (("*", "**/*.root"), "h/a.root", "1"),
        (("*", "**/*.root"), "h/a.txt", "0"),
        (("run*", "*"), "run1/a", "0"),
        (("h", "k"), "l", None),
    ],
)
def test_the_first_output_that_means_a_file_takes_it(patterns: tuple[str, ...], path: str, name: str | None) -> None:
    found = rule_of("c1", path, [rule("other", "**", claim="c2"), *(rule(str(at), p) for at, p in enumerate(patterns))])
    assert (found and found.name) == name


def refused_at_admission(pattern: str) -> bool:
    """Judge a path as the API server does, by the rules of the kind: each is one regular expression."""
    field = VolatileRSESpec.model_json_schema()["$defs"]["Output"]["properties"]["path"]
    for rule in field["x-kubernetes-validations"]:
        found = re.fullmatch(r"(!?)self\.matches\(r'(.*)'\)", rule["rule"])
        assert found
        if (re.search(found[2], pattern, re.ASCII) is None) is not bool(found[1]):
            return True
    return not 1 <= len(pattern) <= field["maxLength"]


@pytest.mark.parametrize(
    "pattern", [" h", "h ", "~/h", "!h", "'h'", '"h"', "$A/h", "a;b", "a|b", "!(a)", "h\n", "a\nb"]
)
def test_what_the_api_server_can_judge_is_refused_there(pattern: str) -> None:
    assert refused_at_admission(pattern)
    assert fault_of_pattern(pattern)


@settings(max_examples=60, deadline=None)
@given(pattern=_PATTERNS)
def test_the_api_server_refuses_nothing_that_is_a_pattern(pattern: str) -> None:
    assert not refused_at_admission(pattern)


@pytest.mark.parametrize("pattern", [r"a\ ", r"\~a", r"\!a", r"\$a", r"a\"", "a b/*", "ü", "[!a]*", "a~"])
def test_what_is_escaped_passes_the_api_server(pattern: str) -> None:
    assert not refused_at_admission(pattern)
    assert fault_of_pattern(pattern) == ""
