"""What is not safe is fetched off the buffer, whole and right, or told."""

from __future__ import annotations

import base64
import json
import ssl
import threading
import zlib
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from tests.unit.cli.api_server import ApiServer, refusal
from tests.unit.cli.conftest import Vrse
from tests.unit.reconcile.small_world import REQUEST, Small
from volatile_rse.adapters.authority import LocalAuthority
from volatile_rse.cli import fetching

FILES = {"kept/a": b"first", "kept/deep/b c": b"second" * 1000, "kept/empty": b""}


class Buffer:
    """Has files, for one token."""

    def __init__(self, folder: Path) -> None:
        self.files = {f"/store/{path}": data for path, data in FILES.items()}
        self.asked: list[str] = []
        authority = LocalAuthority(*LocalAuthority.create())
        self.authority = authority.bundle()
        pair = authority.server(["localhost"], timedelta(days=5))
        for name, text in (("crt", pair.certificate), ("key", pair.key)):
            (folder / name).write_text(text)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = unquote(self.path)
                outer.asked.append(path)
                right = self.headers.get("Authorization") == "Bearer kept-token"
                data = outer.files.get(path) if right else None
                self.send_response(200 if data is not None else 404 if right else 403)
                self.send_header("Content-Length", str(len(data or b"")))
                self.end_headers()
                self.wfile.write(data or b"")

            def log_message(self, *_: object) -> None:
                pass

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "crt", folder / "key")
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.socket = context.wrap_socket(self.http.socket, server_side=True)
        self.url = f"https://localhost:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def buffer(tmp_path: Path, small: Small, server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Buffer]:
    """Have outputs in quarantine, and a Secret that opens them."""
    (tmp_path / "tls").mkdir()
    made = Buffer(tmp_path / "tls")
    small.request()
    condition = {"type": "Usable", "status": "False", "reason": "SessionEnded", "message": "Over."}
    small.cluster.merge(REQUEST, {"status": {"conditions": [condition]}}, subresource="status")
    write(server, made)
    monkeypatch.setattr(fetching, "_PAUSE", 0.05)
    yield made
    made.http.shutdown()
    made.http.server_close()


def write(server: ApiServer, buffer: Buffer, **changed: Any) -> None:
    listed = [
        {"path": path, "at": f"/store/{path}", "bytes": len(data), "adler32": f"{zlib.adler32(data):08x}"}
        for path, data in FILES.items()
    ]
    told = {
        "url": buffer.url,
        "token": "kept-token",
        "ca.crt": buffer.authority,
        "files.jsonl": "".join(json.dumps(file) + "\n" for file in listed),
        "more": "0",
        **changed,
    }
    data = {key: base64.b64encode(text.encode()).decode() for key, text in told.items()}
    server.others["/api/v1/namespaces/alice/secrets/run-vrse-kept"] = {"metadata": {}, "data": data}


def there(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_all_of_it_is_fetched_and_only_once(buffer: Buffer, small: Small, vrse: Vrse, tmp_path: Path) -> None:
    to = tmp_path / "to"
    done = vrse("fetch", "run", "--to", str(to))
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("3 files (6 KiB) are in ") or done.out.startswith("3 files (5.9 KiB) are in ")
    assert there(to) == FILES
    assert (small.cluster.get(REQUEST) or {})["spec"]["teardown"]["fetch"] is True
    asked = len(buffer.asked)
    (to / "kept" / "a").write_bytes(b"FIRST")
    assert vrse("fetch", "run", "--to", str(to)).code == 0
    assert buffer.asked[asked:] == ["/store/kept/a"], "what is there, and right, is left alone"
    assert there(to) == FILES


def test_what_is_not_right_has_no_name_and_is_told(buffer: Buffer, vrse: Vrse, tmp_path: Path) -> None:
    buffer.files["/store/kept/a"] = b"FIRST"
    del buffer.files["/store/kept/empty"]
    done = vrse("fetch", "run", "--to", str(tmp_path / "to"))
    assert done.code == 1
    assert "2 of 3 files of alice/run were not fetched: kept/a: it has 5 bytes with adler32" in done.err
    assert "kept/empty: the buffer gave 404" in done.err
    assert list(there(tmp_path / "to")) == ["kept/deep/b c"]


OUTSIDE = '{"path": "%s", "at": "/store/x", "bytes": 1, "adler32": "0"}\n'
ODD: tuple[tuple[dict[str, str], str], ...] = (
    ({"files.jsonl": OUTSIDE % "../x"}, "is not as the operator writes it"),
    ({"files.jsonl": OUTSIDE % "/etc/x"}, "is not as the operator writes it"),
    ({"files.jsonl": "odd"}, "is not as the operator writes it"),
    ({"ca.crt": "odd"}, "no authority that can be read"),
    ({"token": "other"}, "the buffer gave 403"),
    ({"more": "7"}, "7 files more are not listed"),
)


def test_what_no_list_has_room_for_is_an_admins(buffer: Buffer, server: ApiServer, vrse: Vrse, tmp_path: Path) -> None:
    write(server, buffer, more="7")
    done = vrse("fetch", "run", "--to", str(tmp_path / "to"))
    assert "7 files of alice/run are not listed" in done.err
    assert "ADMIN must act: copy these from the buffer's volume" in done.err
    assert "repeat" not in done.err
    assert set(there(tmp_path / "to")) == set(FILES)


@pytest.mark.parametrize("case", range(len(ODD)))
def test_an_odd_secret_harms_nothing(case: int, buffer: Buffer, server: ApiServer, vrse: Vrse, tmp_path: Path) -> None:
    changed, words = ODD[case]
    write(server, buffer, **changed)
    done = vrse("fetch", "run", "--to", str(tmp_path / "to"))
    assert done.code == 1
    assert words in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "x").exists()


def test_no_token_goes_to_who_does_not_prove_to_be_the_buffer(
    buffer: Buffer, server: ApiServer, vrse: Vrse, tmp_path: Path
) -> None:
    write(server, buffer, **{"ca.crt": LocalAuthority.create()[0]})
    done = vrse("fetch", "run", "--to", str(tmp_path / "to"))
    assert (done.code, buffer.asked) == (1, [])
    assert "CERTIFICATE_VERIFY_FAILED" in done.err


@pytest.mark.usefixtures("buffer")
def test_what_the_operator_has_not_made_in_time_is_told(server: ApiServer, vrse: Vrse) -> None:
    server.answers["GET /api/v1/namespaces/alice/secrets/"] = refusal(404, "NotFound", "not found", name="x")
    done = vrse("fetch", "run", "--timeout", "1s")
    assert done.code == 3
    assert "There is no Secret alice/run-vrse-kept yet" in done.err
    server.answers["GET /api/v1/namespaces/alice/secrets/"] = refusal(403, "Forbidden", "you cannot")
    assert "You may not read Secret alice/run-vrse-kept" in vrse("fetch", "run").err


@pytest.mark.parametrize(
    ("type_", "status", "words"), [("OutputsSafe", "True", "are safe"), ("Usable", "True", "is not over")]
)
def test_what_is_safe_or_runs_is_not_fetched(type_: str, status: str, words: str, small: Small, vrse: Vrse) -> None:
    small.request()
    condition = {"type": type_, "status": status, "reason": "Succeeded", "message": ""}
    small.cluster.merge(REQUEST, {"status": {"conditions": [condition]}}, subresource="status")
    done = vrse("fetch", "run")
    assert done.code == 1
    assert words in done.err
    assert "fetch" not in (small.cluster.get(REQUEST) or {})["spec"].get("teardown", {})
