"""Work outside the cluster takes, renews and releases a lease of the buffer itself."""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import ssl
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.pages import fences
from tests.unit.cli.api_server import ApiServer
from tests.unit.cli.conftest import Vrse
from tests.unit.reconcile.small_world import Small
from volatile_rse.adapters.authority import LocalAuthority
from volatile_rse.ports.cluster import Ref

CONFIG, SECRET = Ref("ConfigMap", "alice", "run-vrse"), Ref("Secret", "alice", "run-vrse")
LEASE = "/lease/uid"
PUBLIC = "root://localhost:1094"
OPERATOR = Path(__file__).resolve().parents[3] / "operator"
EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "slurm"


class Door:
    """The public door of a buffer, which takes what it is given."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[tuple[str, str, str, str]] = []
        """Method, path, token and body."""
        self.status = 201
        self.files: dict[str, bytes] = {}
        """What it has to read."""
        authority = LocalAuthority(*LocalAuthority.create())
        self.authority = authority.bundle()
        pair = authority.server(["localhost"], timedelta(days=5))
        for name, text in (("crt", pair.certificate), ("key", pair.key)):
            (folder / name).write_text(text)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                token = str(self.headers.get("Authorization"))
                outer.asked.append((self.command, self.path, token, self.rfile.read(length).decode()))
                data = outer.files.get(self.path) if self.command == "GET" else b""
                self.send_response(outer.status if data is not None else 404)
                self.send_header("Content-Length", str(len(data or b"")))
                self.end_headers()
                self.wfile.write(data or b"")

            do_GET = do_PUT = do_DELETE = answer  # noqa: N815 (as its base has it)

            def log_message(self, *_: object) -> None:
                pass

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "crt", folder / "key")
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.socket = context.wrap_socket(self.http.socket, server_side=True)
        self.url = f"https://localhost:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()


@pytest.fixture
def door(tmp_path: Path, small: Small, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    """Have a session, whose ConfigMap leads to this door."""
    made = Door(tmp_path)
    small.begin()
    data = {
        "VRSE_PUBLIC_DAVS_URL": made.url,
        "VRSE_PUBLIC_ROOT_URL": PUBLIC,
        "VRSE_LEASE": LEASE,
        "ca.crt": made.authority,
        "0123abcd.0": made.authority,
        "odd\nkey": "x",
    }
    small.cluster.merge(CONFIG, {"data": data})
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    yield made
    made.http.shutdown()
    made.http.server_close()


def token_of(small: Small) -> str:
    body = small.cluster.get(SECRET) or {}
    return base64.b64decode(body["data"]["token"]).decode()


def exported(text: str) -> dict[str, str]:
    return dict(part.split("=", 1) for line in text.splitlines() for part in shlex.split(line)[1:])


def test_a_lease_is_taken_and_a_job_told_what_it_needs(door: Door, small: Small, vrse: Vrse, tmp_path: Path) -> None:
    done = vrse("lease", "take", "run", "--for", "12h", "--id", "job-1")
    assert done.code == 0, done.err
    token = token_of(small)
    assert door.asked == [("PUT", f"{LEASE}/job-1", f"Bearer {token}", "12h")]
    environment = exported(done.out)
    where = tmp_path / "state" / "volatile-rse" / "alice" / "run"
    assert environment["VRSE_PUBLIC_DAVS_URL"] == door.url
    assert environment["VRSE_ADDRESS"] == "public"
    kept = Path(environment["BEARER_TOKEN_FILE"])
    assert kept == where / "secret" / "token"
    assert kept.read_text() == token
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(where.stat().st_mode) == 0o700
    assert [path.name for path in Path(environment["X509_CERT_DIR"]).iterdir()] == ["0123abcd.0"]
    assert (Path(environment["VRSE_CONFIG"]) / "VRSE_LEASE").read_text() == LEASE
    assert (environment["VRSE_ROOT_URL"], environment["VRSE_DAVS_URL"]) == (PUBLIC, door.url)
    assert Path(environment["VRSE_CA_BUNDLE"]).read_text() == door.authority
    urls = [json.loads(line)["url"] for line in Path(environment["VRSE_INPUTS"]).read_text().splitlines()]
    assert [url.startswith(f"{PUBLIC}//store/") for url in urls] == [True, True]
    assert token not in done.out + done.err
    # Once more, over what is there.
    assert vrse("lease", "take", "run", "--folder", str(where)).code == 0


def test_it_is_an_object_for_programs(door: Door, vrse: Vrse, tmp_path: Path) -> None:
    folder = tmp_path / "it's mine"
    plain = vrse("lease", "take", "run", "--folder", str(folder))
    told = json.loads(vrse("lease", "take", "run", "--folder", str(folder), "--for", "90m", "-o", "json").out)
    assert told == {"lease": "lease", "for": "90m", "folder": str(folder), "environment": exported(plain.out)}
    assert told["environment"]["VRSE_DAVS_URL"] == door.url


def test_a_shell_has_what_is_printed(door: Door, vrse: Vrse, tmp_path: Path) -> None:
    """Whatever the folder is called."""
    printed = vrse("lease", "take", "run", "--folder", str(tmp_path / 'it\'s "$HOME" `x`')).out
    shell = ["sh", "-euc", f'{printed}cat "$VRSE_CA_BUNDLE" "$VRSE_SECRET/header" "$BEARER_TOKEN_FILE"; env']
    done = subprocess.run(shell, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(door.authority)
    header, token = re.findall(r"^(?:Authorization: Bearer )?(ey\S+)$", done.stdout, re.MULTILINE)[:1] * 2
    assert header == token
    assert f"VRSE_DAVS_URL={door.url}\n" in done.stdout


def test_a_very_long_list_is_read_from_the_buffer(door: Door, small: Small, vrse: Vrse) -> None:
    inside = (small.cluster.get(CONFIG) or {})["data"]["VRSE_ROOT_URL"]
    listing = {"inputs.jsonl": None, "VRSE_INPUTS_URL": f"{inside}//store/user/.inputs-x.jsonl"}
    small.cluster.merge(CONFIG, {"data": listing})
    missing = vrse("lease", "take", "run")
    assert (missing.code, missing.out) == (1, "")
    assert "has no list of inputs" in missing.err
    door.files["/store/user/.inputs-x.jsonl"] = f'{{"url": "{inside}//store/a"}}\n'.encode()
    environment = exported(vrse("lease", "take", "run").out)
    assert Path(environment["VRSE_INPUTS"]).read_text() == f'{{"url": "{PUBLIC}//store/a"}}\n'
    small.cluster.merge(CONFIG, {"data": {"VRSE_INPUTS_URL": None}})
    assert "VRSE_INPUTS" not in exported(vrse("lease", "take", "run").out)


def files_of(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_that_is_used_again_has_nothing_of_before(
    door: Door, small: Small, vrse: Vrse, tmp_path: Path
) -> None:
    """A list that became too long for the ConfigMap, an output that is gone, another authority."""
    again, anew = tmp_path / "again", tmp_path / "anew"
    small.cluster.merge(CONFIG, {"data": {"VRSE_PUBLISH": "/publish/x", "VRSE_ENTRIES": "1"}})
    vrse("lease", "take", "run", "--folder", str(again))
    assert {"config/inputs.jsonl", "config/VRSE_PUBLISH", "inputs.jsonl"} <= files_of(again).keys()
    (again / "config" / "mine.yaml").write_text("not of a session")
    inside = (small.cluster.get(CONFIG) or {})["data"]["VRSE_ROOT_URL"]
    former = {"VRSE_PUBLISH": None, "VRSE_ENTRIES": None, "inputs.jsonl": None, "0123abcd.0": None}
    new = {"VRSE_INPUTS_URL": f"{inside}//store/x", "4567cdef.0": door.authority}
    small.cluster.merge(CONFIG, {"data": {**former, **new}})
    door.files["/store/x"] = b"{}\n"
    assert [vrse("lease", "take", "run", "--folder", str(where)).code for where in (again, anew)] == [0, 0]
    assert files_of(again) == {**files_of(anew), "config/mine.yaml": "not of a session"}
    small.cluster.merge(CONFIG, {"data": {"VRSE_INPUTS_URL": None}})
    vrse("lease", "take", "run", "--folder", str(again))
    assert "inputs.jsonl" not in files_of(again)


@pytest.mark.usefixtures("door")
def test_a_job_that_reads_meanwhile_has_a_whole_file(small: Small, vrse: Vrse, tmp_path: Path) -> None:
    """What has one open reads on in the old one."""
    folder = tmp_path / "batch"
    vrse("lease", "take", "run", "--folder", str(folder))
    before = files_of(folder)
    with ExitStack() as stack:
        opened = {name: stack.enter_context((folder / name).open()) for name in before}
        # As if each of them were another one now.
        data = {key: f"{value}\n" for key, value in (small.cluster.get(CONFIG) or {})["data"].items()}
        small.cluster.merge(CONFIG, {"data": {key: data[key] for key in ("VRSE_OUTBOX", "0123abcd.0", "ca.crt")}})
        assert vrse("lease", "take", "run", "--folder", str(folder)).code == 0
        assert {name: file.read() for name, file in opened.items()} == before
    assert files_of(folder)["authorities/0123abcd.0"] == before["authorities/0123abcd.0"] + "\n"


@pytest.mark.parametrize("optional", [{}, {"VRSE_PUBLISH": "/publish/x", "VRSE_STATUS": "/store/status.json"}])
def test_the_example_for_slurm_reads_the_folder_alike(
    optional: dict[str, str], door: Door, small: Small, vrse: Vrse, tmp_path: Path
) -> None:
    """It was made for what kubectl alone can fetch; both give a job the same."""
    small.cluster.merge(CONFIG, {"data": {"VRSE_PUBLISH": None, "VRSE_STATUS": None, **optional}})
    folder = tmp_path / "batch"
    printed = exported(vrse("lease", "take", "run", "--folder", str(folder)).out)
    shell = ["sh", "-euc", f"folder={folder}; . {EXAMPLE}/environment.sh; env"]
    of_another = {**os.environ, "VRSE_PUBLISH": "/publish/another", "VRSE_STATUS": "/store/another"}
    done = subprocess.run(shell, env=of_another, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    said = dict(line.split("=", 1) for line in done.stdout.splitlines() if line.startswith(("VRSE_", "BEARER_")))
    # It has the authorities in another folder.
    assert said == {key: value for key, value in printed.items() if key != "X509_CERT_DIR"}
    assert {"VRSE_RSE", "VRSE_PUBLIC_ROOT_URL", "VRSE_PUBLIC_DAVS_URL", *optional} <= said.keys()
    assert said["VRSE_DAVS_URL"] == door.url


DOCS = EXAMPLE.parents[1] / "docs"
PAGE = fences((DOCS / "batch.md").read_text(), "sh")
(AT_ONCE,) = set(re.findall(r"`(eval [^`]*lease take[^`]*)`", (DOCS / "cli.md").read_text()))


def test_the_page_of_batch_works_as_it_is_read(door: Door, server: ApiServer, tmp_path: Path) -> None:
    at_once, for_slurm, *afterwards = (
        block.replace("dimuon-batch -", "run -").replace("release dimuon-batch", "release run") for block in PAGE
    )
    door.files["/store/.session/status.json"] = b"how it stands\n"
    server.small.cluster.merge(CONFIG, {"data": {"VRSE_STATUS": "/store/.session/status.json"}})
    program = tmp_path / "bin" / "vrse"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m volatile_rse.cli "$@"\n')
    program.chmod(0o755)
    (tmp_path / "examples").symlink_to(EXAMPLE.parent)
    environment = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": str(OPERATOR)}
    ready = '. dimuon-batch/environment.sh; lease by-hand 5m; cat "$VRSE_INPUTS"\n'
    said = [
        subprocess.run(
            ["sh", "-euc", lines],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        for lines in (
            f"{AT_ONCE}; env; {at_once}",
            "folder=$PWD/dimuon-batch; " + for_slurm + ready + "".join(afterwards),
        )
    ]
    assert [done.returncode for done in said] == [0, 0], said
    assert re.search(rf'"{PUBLIC}//store/[^"]+"', said[0].stdout)
    assert "how it stands\nReleased is lease lease of run.\n" in said[0].stdout
    assert said[1].stdout.count(f"{PUBLIC}//store/") == 2
    # The last word of each: nothing but the job holds the session then.
    last = {path: method for method, path, _, _ in door.asked if method != "GET"}
    assert last == {f"{LEASE}/by-hand": "PUT", f"{LEASE}/lease": "DELETE"}


def test_a_lease_is_renewed_and_released(door: Door, vrse: Vrse) -> None:
    assert vrse("lease", "renew", "run", "--for", "2h").out == "Lease lease holds run for 2h.\n"
    door.status = 204
    assert vrse("lease", "release", "run").out == "Released is lease lease of run.\n"
    door.status = 404
    assert vrse("lease", "release", "run").out == "There is no lease lease of run.\n"
    assert [(method, body) for method, _, _, body in door.asked] == [("PUT", "2h"), ("DELETE", ""), ("DELETE", "")]


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [(403, 4, "its session is over"), (404, 1, "has no folder for leases"), (500, 5, "gave 500"), (302, 5, "gave 302")],
)
def test_what_the_buffer_says_is_told(status: int, code: int, words: str, door: Door, vrse: Vrse) -> None:
    door.status = status
    done = vrse("lease", "take", "run")
    assert (done.code, done.out) == (code, "")
    assert words in done.err
    assert " must act: " in done.err


def test_no_token_goes_to_who_does_not_prove_to_be_the_buffer(door: Door, small: Small, vrse: Vrse) -> None:
    small.cluster.merge(CONFIG, {"data": {"ca.crt": LocalAuthority.create()[0]}})
    done = vrse("lease", "take", "run")
    assert (done.code, door.asked) == (5, [])
    assert "CERTIFICATE_VERIFY_FAILED" in done.err
    assert token_of(small) not in done.err


@pytest.mark.usefixtures("door")
@pytest.mark.parametrize("arguments", [("--for", "soon"), ("--id", "../x"), ("--id", "")])
def test_what_is_no_lease_is_refused(arguments: tuple[str, ...], vrse: Vrse) -> None:
    assert vrse("lease", "take", "run", *arguments).code == 2


@pytest.mark.usefixtures("door")
def test_a_session_of_an_older_operator_has_none(small: Small, vrse: Vrse) -> None:
    small.cluster.merge(CONFIG, {"data": {"VRSE_LEASE": None}})
    done = vrse("lease", "take", "run")
    assert done.code == 1
    assert "has no VRSE_LEASE: its session began before there were leases" in done.err


def test_a_session_that_has_not_begun_has_none(small: Small, vrse: Vrse) -> None:
    small.request()
    done = vrse("lease", "take", "run")
    assert done.code == 1
    assert "the session has not begun, or is over" in done.err


def test_a_folder_that_cannot_be_written_is_told(door: Door, vrse: Vrse, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = vrse("lease", "take", "run", "--folder", str(tmp_path / "file" / "x"))
    assert done.code == 1
    assert "cannot be written" in done.err
    assert len(door.asked) == 1
