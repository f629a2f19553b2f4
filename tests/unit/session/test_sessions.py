"""What a program of a session gets from the objects that the operator makes and from a buffer that answers."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.unit.session.small_buffer import FILES, INPUTS, OUTBOX, PUBLISH, Objects, SmallBuffer, record, root_urls
from volatile_rse import session as vrse
from volatile_rse.adapters.authority import LocalAuthority, hashed_name
from volatile_rse.builders.session import store_path
from volatile_rse.session import sessions


def until(true: Callable[[], object], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def put(buffer: SmallBuffer, path: str, content: bytes = b"12345") -> None:
    """Write with whatever Python's libraries find in the environment."""
    headers = {"Authorization": f"Bearer {buffer.token}"}
    assert requests.put(f"{buffer.url}{path}", content, headers=headers, timeout=10).status_code == 201


def test_nothing_is_mounted_and_it_is_said_what_to_do(nothing_mounted: Path) -> None:
    with pytest.raises(vrse.SessionError) as told:
        vrse.current()
    for words in (str(nothing_mounted / "vrse"), "kubectl wait", "volatilerse.io/session: NAME", "VRSE_SECRET"):
        assert words in str(told.value)
    assert not {"BEARER_TOKEN_FILE", "VRSE_ROOT_URL"} & set(os.environ)


@pytest.mark.usefixtures("objects")
def test_an_object_that_lacks_something_is_told_by_name(nothing_mounted: Path) -> None:
    (nothing_mounted / "vrse" / "VRSE_RSE").unlink()
    with pytest.raises(vrse.SessionError, match=r"/vrse/VRSE_RSE\. Wait"):
        vrse.current()


def test_token_and_authorities_are_as_clients_of_xrootd_insist(
    objects: Objects, small_buffer: SmallBuffer, nothing_mounted: Path
) -> None:
    s = vrse.current()
    token, authorities = Path(os.environ["BEARER_TOKEN_FILE"]), Path(os.environ["X509_CERT_DIR"])
    assert s.token_file == token
    assert (token.read_text(), mode(token), token.lstat().st_uid) == (small_buffer.token, 0o600, os.getuid())
    assert not token.is_symlink()
    name = hashed_name(small_buffer.authority.bundle())
    assert [path.name for path in authorities.iterdir()] == [name]
    assert (authorities / name).read_bytes() == (objects.config / name).read_bytes()
    assert mode(authorities) == 0o755
    assert mode(authorities.parent) == 0o700
    assert authorities.is_relative_to(nothing_mounted / "tmp")


def test_all_variables_are_set_and_none_that_somebody_has_set(
    objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("X509_CERT_DIR", "/etc/grid-security/certificates")
    monkeypatch.setenv("VRSE_OUTBOX", "/mine")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/site.pem")
    monkeypatch.setenv("BEARER_TOKEN", "as said")
    s = vrse.current()
    assert os.environ["X509_CERT_DIR"] == "/etc/grid-security/certificates"
    assert os.environ["VRSE_OUTBOX"] == "/mine"
    assert os.environ["REQUESTS_CA_BUNDLE"] == "/site.pem"
    assert "BEARER_TOKEN_FILE" not in os.environ, "never both: a client would take the other one"
    for name in ("VRSE_ROOT_URL", "VRSE_DAVS_URL", "VRSE_PUBLISH", "VRSE_RSE", "VRSE_INPUTS_URL"):
        assert os.environ[name] == (objects.config / name).read_text()
    assert s.path("a").endswith(f"/{OUTBOX}/a"), "the objects say it, whatever variables do"


@pytest.mark.usefixtures("objects")
def test_a_token_file_that_clients_would_refuse_is_warned_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "open").write_text("token")
    (tmp_path / "open").chmod(0o644)
    monkeypatch.setenv("BEARER_TOKEN_FILE", str(tmp_path / "open"))
    with pytest.warns(RuntimeWarning, match="with mode 0600"):
        vrse.current()
    assert os.environ["BEARER_TOKEN_FILE"] == str(tmp_path / "open")


def test_what_can_be_used_as_it_is_mounted_is_not_copied(
    nothing_mounted: Path, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on a batch node, where people write the files by hand.
    for name, source in (("s", objects.secret), ("c", objects.config)):
        (nothing_mounted / name).mkdir(mode=0o755)
        for path in source.iterdir():
            if path.is_file():
                (nothing_mounted / name / path.name).write_bytes(path.read_bytes())
    (nothing_mounted / "s" / "token").chmod(0o600)
    monkeypatch.setenv("VRSE_SECRET", str(nothing_mounted / "s"))
    monkeypatch.setenv("VRSE_CONFIG", str(nothing_mounted / "c"))
    vrse.current()
    assert os.environ["BEARER_TOKEN_FILE"] == str(nothing_mounted / "s" / "token")
    assert os.environ["X509_CERT_DIR"] == str(nothing_mounted / "c")


@pytest.mark.usefixtures("objects")
@pytest.mark.parametrize("kind", ["link", "open"])
def test_a_folder_that_is_not_private_gets_no_token(nothing_mounted: Path, kind: str) -> None:
    vrse.current()
    (made,) = (nothing_mounted / "tmp").iterdir()
    made.rename(nothing_mounted / "other")
    if kind == "link":
        made.symlink_to(nothing_mounted / "other")
    else:
        made.mkdir(mode=0o755)
    sessions._KNOWN.clear()
    with pytest.raises(vrse.SessionError, match="is not private"):
        vrse.current()


def test_a_token_that_user_may_not_read_is_told_to_who_wrote_the_pod(
    objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Path.read_text

    def refused(path: Path, *args: Any, **more: Any) -> str:
        if path == objects.secret / "token":
            raise PermissionError(13, "Permission denied")
        return read(path, *args, **more)

    monkeypatch.setattr(Path, "read_text", refused)
    with pytest.raises(vrse.SessionError, match="fsGroup"):
        vrse.current()


def test_a_renewed_token_and_other_authorities_are_taken_over_while_nobody_asks(
    objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "_EVERY", 0.01)
    vrse.current()
    token, authorities = Path(os.environ["BEARER_TOKEN_FILE"]), Path(os.environ["X509_CERT_DIR"])
    before = {path.name for path in authorities.iterdir()}
    new = objects.renew(timedelta(hours=8))
    until(lambda: token.read_text() == new)
    assert mode(token) == 0o600
    other, _ = LocalAuthority.create("of-a-site")
    objects.write_config(other)
    until(lambda: {path.name for path in authorities.iterdir()} == before | {hashed_name(other)})
    until(lambda: other in Path(os.environ["SSL_CERT_FILE"]).read_text())
    objects.write_config()
    until(lambda: {path.name for path in authorities.iterdir()} == before)


def test_what_is_asked_for_is_asked_with_the_token_of_now(objects: Objects, small_buffer: SmallBuffer) -> None:
    s = vrse.current()
    put(small_buffer, f"{OUTBOX}/a")
    objects.renew(timedelta(hours=8))
    assert [written.path for written in s.outputs] == ["a"]
    assert s.token_file.read_text() == small_buffer.token


@pytest.mark.parametrize("gone", ["token", "trusted.pem", "authorities", ""])
def test_what_was_tidied_up_is_made_anew_while_nobody_asks(
    objects: Objects, small_buffer: SmallBuffer, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    assert objects
    monkeypatch.setattr(sessions, "_EVERY", 0.01)
    vrse.current()
    token, authorities = Path(os.environ["BEARER_TOKEN_FILE"]), Path(os.environ["X509_CERT_DIR"])
    trusted = Path(os.environ["SSL_CERT_FILE"])
    path = token.parent / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    until(lambda: token.exists() and trusted.exists() and list(authorities.glob("*.0")))
    assert (token.read_text(), mode(token), mode(token.parent)) == (small_buffer.token, 0o600, 0o700)


def test_a_folder_that_somebody_else_has_made_meanwhile_gets_no_token(objects: Objects) -> None:
    assert objects
    s = vrse.current()
    folder = s.token_file.parent
    shutil.rmtree(folder)
    folder.mkdir(mode=0o755)
    with pytest.raises(vrse.SessionError, match="is not private"):
        s.files("dimuon")
    assert not list(folder.iterdir())


def test_a_child_by_fork_is_not_held_up_by_what_its_parent_was_just_doing(
    objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "_EVERY", 0.01)
    vrse.current()
    held, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with sessions._LOCK:
            held.set()
            let_go.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(10)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover - in the child
        token = vrse.current().token_file
        new = objects.renew(timedelta(hours=8))
        until(lambda: token.read_text() == new)
        os.write(write, b"followed")
        os._exit(0)
    os.close(write)
    try:
        ready, _, _ = select.select([read], [], [], 20)
        assert ready, "the child hangs"
        assert os.read(read, 20) == b"followed"
    finally:
        let_go.set()
        thread.join()
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(read)


@pytest.mark.usefixtures("objects")
def test_a_file_of_this_machine_is_uploaded(small_buffer: SmallBuffer, tmp_path: Path) -> None:
    s = vrse.current()
    (tmp_path / "made").write_bytes(b"12345")
    s.upload(tmp_path / "made", "histograms/a b.root")
    (tmp_path / "made").write_bytes(b"new")
    s.upload(str(tmp_path / "made"), "histograms/a b.root")
    assert small_buffer.files[f"{OUTBOX}/histograms/a b.root"] == b"new"


@pytest.mark.usefixtures("objects")
@pytest.mark.parametrize(
    ("paths", "answer", "told"),
    [
        (("missing", "a"), 201, "missing cannot be read"),
        ((".", "a"), 201, "cannot be read"),
        (("made", "../a"), 201, r"has \.\."),
        (("made", "a"), 507, r"cannot PUT .* \(507\)"),
        (("made", "a"), 403, "the session is over"),
        (("made", "a"), 404, r"has not taken .* \(404\)"),
    ],
)
def test_what_cannot_be_uploaded_is_told(
    small_buffer: SmallBuffer, tmp_path: Path, paths: tuple[str, str], answer: int, told: str
) -> None:
    (tmp_path / "made").write_bytes(b"12345")
    small_buffer.answers["PUT"] = answer
    with pytest.raises(vrse.SessionError, match=told):
        vrse.current().upload(tmp_path / paths[0], paths[1])


def test_another_session_in_the_same_pod_changes_what_was_set_here_and_nothing_else(
    objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VRSE_DAVS_URL", "https://mine")
    vrse.current()
    objects.write_config(changed={"VRSE_OUTBOX": "/outbox/u-2"})
    vrse.current()
    assert os.environ["VRSE_OUTBOX"] == "/outbox/u-2"
    assert os.environ["VRSE_DAVS_URL"] == "https://mine"


def test_the_session_is_the_same_one_each_time(objects: Objects) -> None:
    assert objects
    assert vrse.current() is vrse.current()


@pytest.mark.usefixtures("objects")
def test_pythons_libraries_trust_the_buffer_and_what_they_trusted(small_buffer: SmallBuffer) -> None:
    vrse.current()
    put(small_buffer, f"{OUTBOX}/by-requests")
    # Without a token, but trusted.
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(small_buffer.url, timeout=10)  # noqa: S310 - the buffer's
    usual = Path(requests.utils.DEFAULT_CA_BUNDLE_PATH).read_text().strip()
    assert usual in Path(os.environ["REQUESTS_CA_BUNDLE"]).read_text()


@pytest.mark.parametrize("long", [False, True])
def test_urls_of_inputs(objects: Objects, small_buffer: SmallBuffer, *, long: bool) -> None:
    objects.write_config(long=long)
    s = vrse.current()
    assert sorted(s.files("dimuon")) == sorted(root_urls(FILES))
    paths = [store_path(file.did) for file in FILES]
    assert sorted(s.files("dimuon", https=True)) == sorted(f"{small_buffer.url}{path}" for path in paths)
    (blank,) = s.files("other", https=True)
    options: Any = s.https_options()
    # As aiohttp and urllib take them.
    request = urllib.request.Request(blank, headers=options["headers"])  # noqa: S310 - the buffer's
    with urllib.request.urlopen(request, context=options["ssl"], timeout=10) as answer:  # noqa: S310 - as above
        assert answer.read() == b"x" * 7
    assert {name: (len(entry.files), entry.bytes) for name, entry in s.inputs.items()} == {
        "dimuon": (2, 3000),
        "other": (1, 7),
    }
    for https in (True, False):
        assert s.fileset(https=https) == {
            name: {"files": dict.fromkeys(s.files(name, https=https), "Events")} for name in ("dimuon", "other")
        }
    assert s.fileset() == s.fileset(https=True)
    # A long list is not fetched for every question.
    assert sum(".inputs-" in line for line in small_buffer.asked) == (1 if long else 0)
    with pytest.raises(vrse.SessionError, match="has no input 'dimoun'; it has dimuon, other"):
        s.files("dimoun")


@pytest.mark.usefixtures("objects")
def test_only_what_has_arrived(small_buffer: SmallBuffer) -> None:
    s = vrse.current()
    del small_buffer.files[store_path(FILES[0].did)]
    assert s.files("dimuon", staged=True) == root_urls(FILES[1:])
    assert set(s.fileset(https=False, staged=True)["dimuon"]["files"]) == set(root_urls(FILES[1:]))
    assert len(s.files("dimuon")) == 2


@pytest.mark.parametrize(
    "text", ["{}\n", "[1]\n", "no json\n", '{"inputs": "a", "url": "root://h//p", "did": "", "bytes": 1}\n']
)
def test_a_list_that_is_none_is_told(objects: Objects, text: str) -> None:
    objects.write_config(changed={"inputs.jsonl": text})
    with pytest.raises(vrse.SessionError, match="list of inputs cannot be read"):
        vrse.current().files("dimuon")


@pytest.mark.usefixtures("objects")
@pytest.mark.parametrize(
    ("relative", "path"),
    [
        ("a.root", "a.root"),
        ("histograms/a.root", "histograms/a.root"),
        ("./histograms//a.root", "histograms/a.root"),
        ("two words/a%20.root", "two words/a%20.root"),
        (".hidden", ".hidden"),
    ],
)
def test_where_to_write(small_buffer: SmallBuffer, relative: str, path: str) -> None:
    s = vrse.current()
    assert s.path(relative) == f"root://vrse-abcdefghij.bufs.svc:1094/{OUTBOX}/{path}"
    put(small_buffer, s.path(relative, https=True).removeprefix(small_buffer.url))
    assert f"{OUTBOX}/{path}" in small_buffer.files


@pytest.mark.usefixtures("objects")
def test_a_name_that_root_cannot_open_is_told(small_buffer: SmallBuffer) -> None:
    s = vrse.current()
    with pytest.raises(vrse.SessionError, match="has # in it"):
        s.path("a#1.root")
    put(small_buffer, s.path("a#1.root", https=True).removeprefix(small_buffer.url))
    assert [written.path for written in s.outputs] == ["a#1.root"]
    s.publish("a#1.root")
    assert f"{PUBLISH}/a#1.root" in small_buffer.files


def test_an_input_that_root_cannot_open_is_warned_of_and_read_by_https(
    objects: Objects, small_buffer: SmallBuffer
) -> None:
    odd = "/store/user/alice/00/00/a#1.root"
    line = {"did": "user.alice:a#1.root", "inputs": ["dimuon"], "url": f"root://h:1094/{odd}", "bytes": 1}
    objects.write_config(changed={"inputs.jsonl": json.dumps(line)})
    small_buffer.files[odd] = b"x"
    with pytest.warns(RuntimeWarning, match="ROOT opens no root:// URL with # in it"):
        assert vrse.current().files("dimuon") == [f"root://vrse-abcdefghij.bufs.svc:1094/{odd}"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (url,) = vrse.current().files("dimuon", https=True)
    headers = {"Authorization": f"Bearer {small_buffer.token}"}
    assert requests.get(url, headers=headers, timeout=10).content == b"x"


@pytest.mark.usefixtures("objects")
@pytest.mark.parametrize(
    ("relative", "fault"),
    [
        ("/a", "begins with /"),
        ("", "names no file"),
        ("a/", "names no file"),
        (".", "names no file"),
        ("a/../../u-2/b", r"has \.\."),
        ("a?b", r"has \? in it"),
        ("a\nb", "cannot be printed"),
        ("a\x00b", "cannot be printed"),
        ("a\udc80b", "cannot be printed"),
    ],
)
def test_a_path_that_is_none_is_neither_written_nor_published(relative: str, fault: str) -> None:
    s = vrse.current()
    for refuse in (s.path, s.publish):
        with pytest.raises(vrse.SessionError, match=fault):
            refuse(relative)


@pytest.mark.usefixtures("objects")
@pytest.mark.parametrize("path", ["histograms/a.root", "a b/c%20d.root", "\N{GREEK SMALL LETTER MU}.root"])
def test_what_is_published_is_renamed(small_buffer: SmallBuffer, path: str) -> None:
    s = vrse.current()
    small_buffer.files[f"{OUTBOX}/{path}"] = b"12345"
    s.publish(path)
    assert {name: content for name, content in small_buffer.files.items() if not name.startswith("/store")} == {
        f"{PUBLISH}/{path}": b"12345"
    }


@pytest.mark.usefixtures("objects")
def test_what_cannot_be_published_is_told(small_buffer: SmallBuffer) -> None:
    s = vrse.current()
    with pytest.raises(vrse.SessionError, match=f"{OUTBOX}/a is not on VRSE-ABCDEFGHIJ: write and close it first"):
        s.publish("a")
    small_buffer.answers["MOVE"] = 500
    with pytest.raises(vrse.SessionError, match=r"cannot MOVE .* \(500\): as the test wants it"):
        s.publish("a")
    small_buffer.answers["MOVE"] = 403
    with pytest.raises(vrse.SessionError, match=r"refuses MOVE .* the session is over"):
        s.publish("a")


def test_a_session_without_continuous_outputs_publishes_nothing(
    nothing_mounted: Path, small_buffer: SmallBuffer, objects: Objects
) -> None:
    assert objects
    for folder in ("vrse", "vrse-secret"):
        (nothing_mounted / folder).rename(nothing_mounted / f"old-{folder}")
    Objects(nothing_mounted, small_buffer, record(continuous=False))
    s = vrse.current()
    with pytest.raises(vrse.SessionError, match="register: Continuous"):
        s.publish("a")
    assert not small_buffer.asked
    assert "to be published" not in repr(s)


@pytest.mark.usefixtures("objects")
def test_what_is_in_the_outbox(small_buffer: SmallBuffer) -> None:
    s = vrse.current()
    assert s.outputs == []
    for path in ("b", "histograms/deep/a & b.root", "histograms/c%20d"):
        put(small_buffer, s.path(path, https=True).removeprefix(small_buffer.url))
    assert s.outputs == [
        vrse.Written("b", 5),
        vrse.Written("histograms/c%20d", 5),
        vrse.Written("histograms/deep/a & b.root", 5),
    ]
    small_buffer.files[f"{OUTBOX}/\x01"] = b""
    with pytest.raises(vrse.SessionError, match="cannot be read"):
        assert s.outputs


def rows(s: vrse.Session) -> dict[str, str]:
    found = (line.partition("  ") for line in repr(s).splitlines())
    return {name: value.strip() for name, _, value in found}


@pytest.mark.usefixtures("objects")
def test_the_table(small_buffer: SmallBuffer) -> None:
    s = vrse.current()
    missing = small_buffer.files.pop(store_path(FILES[0].did))
    put(small_buffer, f"{OUTBOX}/a", b"x" * 2_500_000)
    put(small_buffer, f"{PUBLISH}/b")
    shown = rows(s)
    assert shown.pop("time left").startswith("at most 8 h 59 min: the token ends at ")
    assert shown == {
        "RSE": "VRSE-ABCDEFGHIJ",
        "input dimuon": "[##########..........] 1 of 2 files staged, 1.5 kB of 3.0 kB",
        "input other": "1 of 1 files staged, 7 B in all",
        "written": f"1 files, 2.5 MB in {OUTBOX}",
        "to be published": f"1 files, 5 B in {PUBLISH}",
    }
    small_buffer.files[store_path(FILES[0].did)] = missing
    small_buffer.asked.clear()
    assert rows(s)["input dimuon"] == "2 of 2 files staged, 3.0 kB in all"
    heads = [line for line in small_buffer.asked if line.startswith("HEAD")]
    assert heads == [f"HEAD {store_path(FILES[0].did)}"], "what is there is not looked for again"


@pytest.mark.usefixtures("objects")
def test_a_table_that_takes_too_long_says_what_it_knows(
    small_buffer: SmallBuffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = vrse.current()
    for name in "ab":
        put(small_buffer, f"{OUTBOX}/{name}")
    # Each look at the clock is a minute later.
    clock = iter(range(0, 100_000, 60))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    assert rows(s)["input dimuon"].endswith("] at least 1 of 2 files staged, 1.5 kB of 3.0 kB")
    assert rows(s)["written"].startswith("at least 0 files")


def test_html_shows_what_is_written_as_it_is(objects: Objects) -> None:
    objects.write_config(changed={"VRSE_RSE": "<script>"})
    shown = vrse.current()._repr_html_()
    assert "&lt;script&gt;" in shown
    assert "<script>" not in shown
    assert shown.count("<tr>") == 6


def test_a_buffer_that_is_gone_is_told_and_breaks_no_table(objects: Objects, small_buffer: SmallBuffer) -> None:
    assert objects
    s = vrse.current()
    small_buffer.close()
    told = "does not answer at"
    with pytest.raises(vrse.SessionError, match=told):
        s.publish("a")
    shown = rows(s)
    assert told in shown["written"]
    assert "0 of 2 files staged" in shown["input dimuon"]
    assert told in shown["input dimuon"]


def test_a_buffer_that_shows_another_authoritys_certificate_gets_no_token(
    objects: Objects, small_buffer: SmallBuffer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Whatever else this process trusts.
    (tmp_path / "site.pem").write_text(small_buffer.authority.bundle())
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "site.pem"))
    other, _ = LocalAuthority.create()
    objects.write_config(changed={"ca.crt": other})
    with pytest.raises(vrse.SessionError, match="CERTIFICATE_VERIFY_FAILED"):
        vrse.current().publish("a")
    assert not small_buffer.asked


def test_a_session_that_is_over_is_told_and_breaks_no_table(objects: Objects) -> None:
    s = vrse.current()
    for folder in (objects.secret, objects.config):
        (folder / "..data").unlink()
    assert "not known" in rows(s)["RSE"]
    with pytest.raises(vrse.SessionError, match="is gone"):
        s.files("dimuon")
    with pytest.raises(vrse.SessionError, match="it is over"):
        vrse.current()


@pytest.mark.parametrize(
    ("token", "told"),
    [
        ("opaque", "not known"),
        ("a.b.c", "not known"),
        ("a.e30.c", "not known"),
        ("a.eyJleHAiOiAxfQ.c", "none: the token has ended"),
        ("a.eyJleHAiOiAxZTk5fQ.c", "not known"),
    ],
)
def test_a_token_that_tells_no_end(objects: Objects, token: str, told: str) -> None:
    objects._mount(objects.secret, {"token": token.encode()})
    assert rows(vrse.current())["time left"].startswith(told)


@pytest.mark.usefixtures("objects")
def test_the_token_is_shown_nowhere(small_buffer: SmallBuffer) -> None:
    s = vrse.current()
    small_buffer.answers.update(dict.fromkeys(("MOVE", "PROPFIND", "HEAD"), 403))
    with pytest.raises(vrse.SessionError) as told:
        s.publish("a")
    signature = small_buffer.token.rpartition(".")[2]
    assert signature
    assert not [text for text in (repr(s), s._repr_html_(), str(told.value), str(vars(s))) if signature in text]


@pytest.mark.usefixtures("objects")
def test_a_child_goes_on_with_what_its_parent_has_set() -> None:
    vrse.current()
    code = "import volatile_rse.session as v; print(v.current().token_file)"
    environment = {**os.environ, "TMPDIR": str(Path(os.environ["X509_CERT_DIR"]).parents[1])}
    environment["PYTHONPATH"] = str(Path(vrse.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], check=True, capture_output=True, text=True, env=environment
    )
    assert done.stdout.strip() == os.environ["BEARER_TOKEN_FILE"]


def test_inputs_are_those_that_the_operator_froze(objects: Objects) -> None:
    assert objects
    found = {name: {file.did for file in entry.files} for name, entry in vrse.current().inputs.items()}
    assert found == {name: {str(file.did) for file in files} for name, files in INPUTS.items()}
