"""Names of a class: within the schemas of Rucio and of CMS, and never one name for two things."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volatile_rse.api.agent import OutputRule
from volatile_rse.api.names import rse_path
from volatile_rse.api.volatilerseclass import Naming
from volatile_rse.domain.naming import (
    faults_of_naming,
    faults_of_output,
    file_template,
    layout_of,
    ledger_name,
    record_of,
    rse_name,
)

# Rucio 41, rucio/common/schema/generic.py: RSE and NAME.
GENERIC_RSE = r"^([A-Z0-9]+([_-][A-Z0-9]+)*)$"
GENERIC_NAME = r"^[/A-Za-z0-9][/A-Za-z0-9\.\-_]*$"
# The policy package of CMS (github.com/dmwm/CMSRucio at 1eed677c9489, src/policy/CMSRucioPolicy/schema.py): RSE,
# CMS_LFN and CMS_BLOCK; the last condition is that of its verify_scope_lfn_match.
CMS_RSE = r"^T[0-3]_[A-Z]{2}((_[A-Za-z0-9]+)+)$"
CMS_LFN = r"^\/store\/[A-Za-z0-9][A-Za-z0-9\.\-\_\/]{1,493}$"
CMS_BLOCK = r"^/[a-zA-Z0-9\-_]{1,99}/[a-zA-Z0-9\.\-_]{1,199}/[A-Z0-9\-]{1,99}#[a-zA-Z0-9\.\-_]{1,100}$"

GENERIC, CMS = Naming(), Naming(preset="cms")
OWN = Naming(file="/x/{record}/{output}/{path}")
RECORD = "a2b3c4d5e6"

records = st.text("abcdefghijklmnopqrstuvwxyz234567", min_size=10, max_size=10)
outputs = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)
parts = st.binary(min_size=1, max_size=255).filter(lambda part: not {0, 47}.intersection(part))
paths = st.lists(parts, min_size=1, max_size=4).map(b"/".join)
accounts = st.from_regex(r"[a-z0-9-_]{1,25}", fullmatch=True)
owners = st.from_regex(r"user\.[a-z0-9-_]{1,20}|group\.[a-z0-9-_]{1,19}", fullmatch=True)


def rule(naming: Naming, output: str = "out", scope: str = "user.alice") -> OutputRule:
    return OutputRule(
        claim="u-1", name=output, patterns=["**"], scope=scope, dataset=f"data.{output}",
        template=file_template(naming), layout="identity" if layout_of(naming) == "identity" else None,
    )  # fmt: skip


@given(records, accounts, outputs, owners, paths)
def test_cms_names_obey_the_published_patterns(record: str, account: str, output: str, scope: str, path: bytes) -> None:
    name, _ = rule(CMS, output, scope).named(record, path)
    kind, _, owner = scope.partition(".")
    assert re.match(CMS_LFN, name)
    assert name.startswith(f"/store/{kind}/rucio/{owner}/")
    assert len(name) <= 250, "a generic server takes them, too"
    assert re.match(CMS_RSE, rse_name(CMS, record))
    assert re.match(CMS_BLOCK, ledger_name(CMS, record, account))


@given(records, outputs, paths)
def test_generic_names_obey_the_generic_schema(record: str, output: str, path: bytes) -> None:
    name, store_path = rule(GENERIC, output).named(record, path)
    assert re.match(GENERIC_NAME, name)
    assert len(name) <= 250
    assert name.startswith(f"data.{output}.{record}.")
    assert store_path == f"/store/{rse_path('hash', 'user.alice', name)}"
    assert re.match(GENERIC_RSE, rse_name(GENERIC, record))
    assert re.match(GENERIC_NAME, ledger_name(GENERIC, record, "alice"))


@pytest.mark.parametrize("naming", [GENERIC, CMS, OWN], ids=["generic", "cms", "own"])
def test_two_files_never_have_one_name_or_path(naming: Naming) -> None:
    triples = st.tuples(
        st.sampled_from([RECORD, "b" * 10]) | records,
        st.sampled_from(["out", "o", "out-" + "x" * 50]) | outputs,
        st.sampled_from([b"a/b", b"a--b", b"a-2Fb", b"a%", b"-x", b"a" * 200, b"a" * 201, b"\xff" * 90]) | paths,
    )

    @given(st.lists(triples, unique=True, min_size=2, max_size=12))
    def differ(files: list[tuple[str, str, bytes]]) -> None:
        named = [rule(naming, output).named(record, path) for record, output, path in files]
        assert len({name for name, _ in named}) == len({path for _, path in named}) == len(files)

    differ()


OF_BOTH = Naming(rse="ABC{record}-{RECORD}DE")


@given(st.sampled_from([GENERIC, CMS, OF_BOTH, Naming(rse="Z{RECORD}2")]), records, records)
def test_a_record_is_found_by_the_name_of_its_rse(naming: Naming, record: str, other: str) -> None:
    assert record_of(naming, rse_name(naming, record)) == record
    assert record_of(GENERIC, rse_name(CMS, record)) is None
    for name in ("SITE-A", f"VRSE-{record}x".upper(), f"ABC{record}-{other.upper()}DE"):
        assert record_of(naming, name) is None or name == rse_name(naming, record)


@given(records, paths, paths)
def test_no_cms_file_lies_below_another(record: str, one: bytes, other: bytes) -> None:
    (_, first), (_, second) = (rule(CMS).named(record, path) for path in (one, other))
    assert not second.startswith(f"{first}/")


def test_a_cms_file_reads_well() -> None:
    name, store_path = rule(CMS, "plots").named(RECORD, b"deep/h_1.root")
    assert name == f"/store/user/rucio/alice/{RECORD}/plots/deep--h_1.root"
    assert store_path == f"/store/user/alice{name}"
    assert rse_name(CMS, RECORD) == "T3_XX_VRSE_A2B3C4D5E6"
    assert ledger_name(CMS, RECORD, "alice") == f"/vrse/alice-{RECORD}/USER#{RECORD}"


@pytest.mark.parametrize("layout", ["hash", "identity"])
def test_paths_are_those_of_rucio(layout: Any, rucio_path: Callable[[str, str, str], str]) -> None:
    for scope, name in (
        ("user.alice", "f.root"),
        ("cms", "/store/mc/f.root"),
        ("group.phys", "/store/group/rucio/phys/f"),
    ):
        assert rse_path(layout, scope, name) == rucio_path(layout, scope, name).replace("//", "/")


@pytest.fixture
def rucio_path(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, str], str]:
    config = tmp_path / "rucio.cfg"
    config.write_text("[client]\nrucio_host = https://rucio.invalid\n")
    monkeypatch.setenv("RUCIO_CONFIG", str(config))
    from rucio.rse.translation import RSEDeterministicTranslation  # noqa: PLC0415 (looks for its configuration)

    def path(layout: str, scope: str, name: str) -> str:
        translation = RSEDeterministicTranslation("R", {"lfn2pfn_algorithm": layout}, {})
        return str(translation.path(scope, name))

    return path


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"rse": "VRSE"}, "spec.naming.rse 'VRSE' lacks {record}."),
        ({"rse": "vrse-{record}"}, "does not match [A-Z0-9]+"),
        ({"rse": "VRSE-{account}{RECORD}"}, "has placeholders besides {RECORD}, {record}"),
        ({"rse": "VRSE-{RECORD"}, "is no template"),
        ({"rse": "VRSE-{RECORD!r}"}, "has placeholders besides"),
        ({"rse": "VRSE-{RECORD:>30}"}, "has placeholders besides"),
        ({"rse": "VRSE-{RECORD.__class__}"}, "has placeholders besides"),
        ({"preset": "cms", "rse": "VRSE-{RECORD}"}, "does not match T[0-3]_"),
        ({"ledger": "all"}, "spec.naming.ledger 'all' lacks {record}."),
        ({"ledger": "{record} ledger"}, "does not match"),
        ({"preset": "cms", "ledger": "vrse-{record}"}, "does not match /"),
        ({"file": "{record}.{output}.{path}"}, "is not parts between slashes"),
        ({"file": "/a/{record}{output}/{path}"}, "is not parts between slashes"),
        ({"file": "/a/x{record}/{output}/{path}"}, "is not parts between slashes"),
        ({"file": "/a/../{record}/{output}/{path}"}, "is not parts between slashes"),
        ({"file": "/a/{output}/{path}"}, "lacks {record}"),
        ({"file": "/a/{record}/{path}"}, "does not end with"),
        ({"file": "/a/{record}/{output}/{path}/b"}, "does not end with"),
        ({"preset": "cms", "file": "/store/{record}/{output}/{path}"}, "does not begin with /store/{kind}/rucio"),
    ],
)  # fmt: skip
def test_a_bad_template_is_told_with_its_field(fields: Any, said: str) -> None:
    (fault,) = faults_of_naming(Naming(**fields))
    assert said in fault
    assert f"spec.naming.{list(fields)[-1]} " in fault


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"preset": "cms"},
        {"preset": "cms", "rse": "T3_US_Site_{record}", "ledger": "/v/{record}/USER#r"},
        {"rse": "T3_{RECORD}", "ledger": "{account}.{record}", "file": "/x/{owner}/{record}/{output}/{path}"},
        {"preset": "cms", "file": "/store/{kind}/rucio/{owner}/vrse/{record}/{output}/{path}"},
    ],
)
def test_good_templates_have_no_fault(fields: Any) -> None:
    assert faults_of_naming(Naming(**fields)) == ()


def test_cms_takes_its_own_scopes_and_blocks_only() -> None:
    assert faults_of_output(CMS, "user.alice", "/a/b/USER#r1") == ()
    assert [fault.split(" ")[0] for fault in faults_of_output(CMS, "cms", "/a/b/USER")] == ["scope", "dataset"]
    assert faults_of_output(GENERIC, "cms", "any") == ()


@pytest.mark.parametrize("scope", ["user..alice", "user.", "group.x.", "..", "."])
def test_a_scope_whose_folder_is_anothers_takes_no_output(scope: str) -> None:
    (fault,) = faults_of_output(GENERIC, scope, "any")
    assert fault.startswith(f"scope {scope!r} has no folder of its own on an RSE: its path has an empty part")
