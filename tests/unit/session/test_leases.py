from __future__ import annotations

import os
import socket
import warnings

import pytest

from tests.unit.agent.conftest import until
from tests.unit.session.small_buffer import LEASES, Objects, SmallBuffer
from volatile_rse import session as vrse
from volatile_rse.api.leases import LONGEST_LEASE, fault_of_lease_name
from volatile_rse.session import leases

PUBLIC = "root://buffers.example.org:30001"


@pytest.mark.usefixtures("objects")
def test_a_lease_is_taken_renewed_and_released(small_buffer: SmallBuffer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "_SHARE", 3600 * 100)
    with vrse.current().lease("job-42", "1h") as lease:
        assert small_buffer.files[f"{LEASES}/job-42"] == b"1h"
        assert lease.name == "job-42"
        until(lambda: small_buffer.asked.count(f"PUT {LEASES}/job-42") > 3)
    assert f"{LEASES}/job-42" not in small_buffer.files
    asked = len(small_buffer.asked)
    lease.release()
    assert small_buffer.asked[asked:] == [f"DELETE {LEASES}/job-42"]


@pytest.mark.usefixtures("objects")
def test_it_is_released_also_by_an_error(small_buffer: SmallBuffer) -> None:
    with pytest.raises(ZeroDivisionError), vrse.current().lease("job", "2h"):
        raise ZeroDivisionError
    assert f"{LEASES}/job" not in small_buffer.files


@pytest.mark.usefixtures("objects")
def test_one_that_is_not_taken_is_told_at_once(small_buffer: SmallBuffer) -> None:
    small_buffer.answers["PUT"] = 403
    with pytest.raises(vrse.SessionError, match="the session is over"), vrse.current().lease("job"):
        pytest.fail("nothing holds the session")


@pytest.mark.usefixtures("objects")
def test_what_goes_wrong_later_is_warned_of_and_loses_no_result(
    small_buffer: SmallBuffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "_SHARE", 3600 * 100)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        with vrse.current().lease("job", "1h"):
            small_buffer.answers["PUT"] = 507
            until(lambda: any("is not renewed" in str(entry.message) for entry in heard))
            asked = len(small_buffer.asked)
            until(lambda: len(small_buffer.asked) > asked + 2)
            del small_buffer.answers["PUT"]
            del small_buffer.files[f"{LEASES}/job"]
            until(lambda: f"{LEASES}/job" in small_buffer.files)
            small_buffer.answers["DELETE"] = 500
    said = [str(entry.message) for entry in heard]
    assert [words.split(":")[0] for words in said] == ["Lease job is not renewed", "Lease job ends by its own time"]


def test_it_is_renewed_again_after_its_certificates_could_not_be_read(
    small_buffer: SmallBuffer, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "_SHARE", 3600 * 100)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        with vrse.current().lease("job", "1h"):
            kept = (objects.config / "ca.crt").rename(objects.config / "kept")
            until(lambda: any("ca.crt cannot be read" in str(entry.message) for entry in heard))
            kept.rename(objects.config / "ca.crt")
            asked = len(small_buffer.asked)
            until(lambda: f"PUT {LEASES}/job" in small_buffer.asked[asked:])


@pytest.mark.usefixtures("objects")
def test_one_that_has_no_place_is_none(small_buffer: SmallBuffer) -> None:
    small_buffer.answers["PUT"] = 404
    with pytest.raises(vrse.SessionError, match="has not taken"):
        vrse.current().lease("job").renew()


@pytest.mark.usefixtures("objects")
@pytest.mark.parametrize("hold", ["", "0h", "1 h", "8d", "h", "1.5h", "999999999999d", "169h", "٢h"])
def test_what_is_no_time(hold: str) -> None:
    with pytest.raises(vrse.SessionError, match="no time of a lease"):
        vrse.current().lease("job", hold)


@pytest.mark.usefixtures("objects")
@pytest.mark.parametrize("name", ["", "../outbox/x", "a/b", "A" * 64, "a b", "a?b"])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(vrse.SessionError, match="no name of a lease"):
        vrse.current().lease(name)


@pytest.mark.usefixtures("objects")
def test_the_longest_is_what_a_buffer_takes() -> None:
    assert int(LONGEST_LEASE.total_seconds()) == leases._LONGEST
    vrse.current().lease("job", "7d")


@pytest.mark.usefixtures("objects")
@pytest.mark.parametrize(
    ("job", "host", "wanted"),
    [("4711", "n" * 40, f"slurm-4711-{'n' * 30}-{{pid}}"), ("", "n1.site", "n1.site-{pid}"), ("", "_" * 80, "{pid}")],
)
def test_it_is_named_after_its_job(job: str, host: str, wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", job)
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    name = vrse.current().lease().name
    assert (name, fault_of_lease_name(name)) == (wanted.format(pid=os.getpid()), "")


def test_a_session_of_an_older_operator_knows_none(objects: Objects) -> None:
    s = vrse.current()
    (objects.config / "VRSE_LEASE").unlink()
    with pytest.raises(vrse.SessionError, match="knows no leases"):
        s.lease("job")


def test_outside_the_cluster_all_urls_are_public(objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VRSE_ADDRESS", "public")
    s = vrse.current()
    urls = [*s.files("dimuon"), s.path("a.root")]
    assert all(url.startswith(f"{PUBLIC}//") for url in urls)
    assert s.path("a.root", https=True).startswith("https://buffers.example.org:30002/outbox/")
    assert os.environ["VRSE_ROOT_URL"] == PUBLIC
    assert os.environ["VRSE_DAVS_URL"] == "https://buffers.example.org:30002"
    inside = (objects.config / "VRSE_INPUTS_URL").read_text()
    assert os.environ["VRSE_INPUTS_URL"] == f"{PUBLIC}//{inside.split('//')[2]}"


@pytest.mark.usefixtures("objects")
def test_an_address_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VRSE_ADDRESS", "outside")
    with pytest.raises(vrse.SessionError, match="set it to public"):
        vrse.current().files("dimuon")
