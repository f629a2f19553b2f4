"""The real Flux makes a session from a commit, tells its health, and ends it by another, as the page says."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from testbed import cluster, flux
from testbed.sessions import Session, wait_for
from tests import pages
from tests.e2e.flows import SIZES, WRITE, assert_kept, end_of, new_dataset

pytestmark = [pytest.mark.cluster, pytest.mark.grid, pytest.mark.people]

NAMES, CONNECT, COMMIT, WAIT, WRONG, REMOVE = pages.fences((pages.DOCS / "gitops.md").read_text(), "sh")
ABOUT = "{apiVersion: v1, kind: ConfigMap, metadata: {name: about}, data: {what: an analysis}}"
AUTHOR = {
    f"GIT_{who}_{what}": said
    for who in ("AUTHOR", "COMMITTER")
    for what, said in (("NAME", "alice"), ("EMAIL", "alice@example.org"))
}


class Reader:
    """Executes blocks of the page, with a repository and a session of their own."""

    def __init__(self, session: Session, folder: Path, url: str) -> None:
        self.session, self.dataset = session, new_dataset()
        self._folder, self._clone = folder, folder / "analysis"
        self._names = {
            "NAMESPACE": session.namespace,
            "CLASS": session.class_name,
            "DATASET": self.dataset,
            "REPOSITORY": url,
            "CLONE": str(self._clone),
        }
        assert set(re.findall(r"(\w+)=", NAMES)) == set(self._names)

    def has_other_manifests(self) -> None:
        """Put something into the repository, as the page supposes it."""
        clone = self._folder / "first"
        git = f"git -C {clone}"
        self.follows(
            f"git clone $REPOSITORY {clone}\necho {shlex.quote(ABOUT)} > {clone}/about.yaml\n"
            f"{git} add about.yaml\n{git} commit -m about\n{git} push origin HEAD:main\n"
        )

    def follows(self, block: str) -> str:
        """Execute a block; give what it prints."""
        exports = {**self._names, **AUTHOR}.items()
        said = "\n".join(f"export {name}={shlex.quote(value)}" for name, value in exports)
        return pages.run(f"{said}\n{block}", self._folder, {}, 400)

    def revision(self) -> str:
        """Name the last commit as Flux does."""
        argv = ["git", "-C", str(self._clone), "rev-parse", "HEAD"]
        return f"main@sha1:{subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()}"

    def status(self) -> Mapping[str, Any]:
        """Read what Flux says."""
        argv = ("-n", self.session.namespace, "get", "kustomization", "analysis", "-o", "json")
        return json.loads(cluster.kubectl(*argv)).get("status") or {}


def health_of(status: Mapping[str, Any]) -> Mapping[str, str]:
    """Give the condition of health; empty as long as there is none."""
    return next((entry for entry in status.get("conditions") or () if entry["type"] == "Healthy"), {})


@pytest.fixture(scope="module", autouse=True)
def _flux() -> Iterator[None]:
    flux.up()
    yield
    flux.removed()


@pytest.fixture
def reader(session: Session, tmp_path: Path) -> Iterator[Reader]:
    with flux.repository(tmp_path, "analysis") as url:
        found = Reader(Session(session.namespace, "dimuon", session.class_name), tmp_path, url)
        found.has_other_manifests()
        yield found
        end_of(found.session)
        # As long as Flux is there to let go of them.
        cluster.kubectl("-n", session.namespace, "delete", "kustomization,gitrepository", "--all", "--timeout=200s")


def assert_told_as_it_is(reader: Reader) -> None:
    """Flux calls the revision applied once the session can begin, and says until then that it looks."""
    revision, seen = reader.revision(), set[str]()

    def applied() -> bool:
        # First what Flux says: a session that can begin meanwhile must not count as one that cannot.
        status = reader.status()
        ready = reader.session.is_true("Ready")
        if revision in health_of(status).get("message", "") and not ready:
            seen.add(health_of(status)["status"])
        done = status.get("lastAppliedRevision") == revision
        assert ready or not done, "applied before it was healthy"
        return done

    wait_for("the revision is applied", applied, 240)
    assert seen == {"Unknown"}, "while it could not begin"
    assert health_of(reader.status())["status"] == "True"


def test_a_session_comes_by_a_commit_tells_its_health_and_goes_by_another(reader: Reader) -> None:
    session = reader.session
    reader.follows(CONNECT)
    reader.follows(COMMIT)
    assert_told_as_it_is(reader)
    assert "dimuon" in reader.follows(WAIT)

    said = reader.follows(WRONG)
    flux_says, _, vrse_says = said.partition("status: 'Failed'")
    assert flux_says.endswith(f"[VolatileRSE/{session.namespace}/typo "), said
    assert "nano_dimoun" in vrse_says
    assert session.is_true("Ready")

    session.job(f"{WRITE}\necho written\nwhile [ ! -e /tmp/go ]; do sleep 0.2; done\n")
    wait_for("the Job has written", lambda: "written" in session.log())
    reader.follows(REMOVE)
    assert session.record()["status"]["outcome"]["files"] == len(SIZES), "it went before its outputs were safe"
    assert_kept(reader.dataset, session.wait_closed(), SIZES)
    assert reader.status()["lastAppliedRevision"] == reader.revision()
