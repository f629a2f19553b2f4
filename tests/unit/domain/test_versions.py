from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volatile_rse.api.names import file_name
from volatile_rse.domain.catalogue import Did, File
from volatile_rse.domain.versions import is_same, others_of, own_of, path_of, same_of, versions_in

DATASETS = ["d", "dimuon_v3", "a.b-c", "/a/b/USER#x", "d" * 200]
TEMPLATES = [None, "/store/{kind}/rucio/{owner}/{record}/{output}/{path}"]
RECORDS = st.text("abcdefghijklmnopqrstuvwxyz234567", min_size=10, max_size=10)
PATHS = st.binary(min_size=1, max_size=300)
OURS, THEIRS = "aaaaaaaaaa", "bbbbbbbbbb"


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("dataset", DATASETS)
@given(records=st.tuples(RECORDS, RECORDS), path=PATHS, another=PATHS)
def test_the_same_path_is_told_from_another_by_names_alone(
    template: str | None, dataset: str, records: tuple[str, str], path: bytes, another: bytes
) -> None:
    one, other = records

    def told(record: str, what: bytes, output: str) -> tuple[str, str] | None:
        return path_of(dataset, file_name(template, record, ("user.alice", dataset), output, what))

    first, second = told(one, path, "kept"), told(other, path, "kept-otherwise")
    assert first is not None
    assert second is not None
    assert (first[0], second[0]) == (one, other)
    assert first[1] == second[1]
    third = told(other, another, "kept")
    assert third is not None
    assert (third[1] == first[1]) == (another == path)


@pytest.mark.parametrize("name", ["d.root", "histograms", "d.aaaaaaaaa.x", "d.aaaaaaaaa1.x", "/store/user/alice/x"])
def test_other_names_are_no_versions(name: str) -> None:
    assert path_of("d", name) is None


def file(record: str, path: str, size: int = 1) -> File:
    return File(Did("s", f"d.{record}.{path}"), size, "00000001")


def test_a_file_of_another_scope_is_no_version_of_a_session_whatever_it_is_called() -> None:
    mine, called_so = file(OURS, "a"), File(Did("t", f"d.{THEIRS}.a"), 1, "00000001")
    assert versions_in(Did("s", "d"), [mine], [called_so], OURS) == {}


def test_a_path_that_another_record_has_is_found_and_its_own_files_are_not() -> None:
    files = [file(OURS, "a"), file(OURS, "b"), file(OURS, "c")]
    content = [*files[:1], file(THEIRS, "b", 2), file(THEIRS, "c", 2), file("cccccccccc", "c"), file(THEIRS, "z")]
    found = versions_in(Did("s", "d"), files, content, OURS)
    assert found == {files[1].did: file(THEIRS, "b", 2), files[2].did: file("cccccccccc", "c")}
    groups = {"kept": files}
    assert own_of(groups, found) == {"kept": files[:1]}
    assert others_of(groups, found) == [(files[1], file(THEIRS, "b", 2))]
    assert same_of(groups, found) == {"kept": [(files[2], file("cccccccccc", "c"))]}
    assert is_same(files[2], file("cccccccccc", "c"))
