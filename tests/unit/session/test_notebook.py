"""What ``%vrse`` shows in a notebook and in a terminal."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.unit.session.small_buffer import FILES, Objects, SmallBuffer
from volatile_rse import session as vrse
from volatile_rse.builders.session import store_path
from volatile_rse.session import notebook


class Shell:
    """What an extension sees of IPython; a notebook has a kernel."""

    def __init__(self, *, kernel: object = None) -> None:
        self.magics: dict[str, Callable[[str], object]] = {}
        self.display_pub: notebook.Publisher = self
        self.kernel = kernel
        self.shown: dict[str, list[str]] = {}

    def register_magic_function(self, func: Callable[[str], object], magic_kind: str, magic_name: str) -> None:
        assert magic_kind == "line"
        self.magics[magic_name] = func

    def publish(
        self, data: Mapping[str, str], *, transient: Mapping[str, str] | None = None, update: bool = False
    ) -> None:
        assert transient is not None
        place = transient["display_id"]
        assert update == (place in self.shown), "the first shows, all others replace"
        assert data["text/html"].startswith("<table>")
        self.shown.setdefault(place, []).append(data["text/plain"])

    @property
    def last(self) -> str:
        return list(self.shown.values())[-1][-1]


def loaded(*, kernel: object = None) -> Shell:
    shell = Shell(kernel=kernel)
    vrse.load_ipython_extension(shell)
    return shell


def until(true: Callable[[], object], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebook, "_EVERY", 0.01)
    monkeypatch.setattr(notebook, "_SELDOM", 0.02)


@pytest.mark.usefixtures("objects")
@pytest.mark.parametrize("kernel", [None, "kernel"])
@pytest.mark.parametrize("line", ["", "wait"])
def test_a_session_with_all_its_inputs_is_shown(line: str, kernel: object) -> None:
    shell = loaded(kernel=kernel)
    shown = shell.magics["vrse"](line)
    if line == "wait" and kernel:
        assert "2 of 2 files staged" in shell.last
        assert shown is None, "else it would be shown twice"
    else:
        assert shown is vrse.current()
        assert not shell.shown


@pytest.mark.usefixtures("objects")
def test_a_notebook_follows_what_arrives_while_other_cells_run(small_buffer: SmallBuffer) -> None:
    path = store_path(FILES[0].did)
    missing = small_buffer.files.pop(path)
    shell = loaded(kernel="kernel")
    assert shell.magics["vrse"]("") is None
    assert "[##########..........] 1 of 2 files staged, 1.5 kB of 3.0 kB" in shell.last
    small_buffer.files[path] = missing
    until(lambda: "2 of 2 files staged, 3.0 kB in all" in shell.last)
    assert len(shell.shown) == 1


@pytest.mark.usefixtures("objects")
def test_a_terminal_shows_it_once(small_buffer: SmallBuffer) -> None:
    del small_buffer.files[store_path(FILES[0].did)]
    shell = loaded()
    assert shell.magics["vrse"]("") is vrse.current()
    assert not shell.shown


@pytest.mark.usefixtures("objects")
def test_the_next_one_takes_over(small_buffer: SmallBuffer) -> None:
    del small_buffer.files[store_path(FILES[0].did)]
    shell = loaded(kernel="kernel")
    shell.magics["vrse"]("")
    shell.magics["vrse"]("")
    first, second = shell.shown
    until(lambda: len(shell.shown[second]) > 3)
    seen = len(shell.shown[first])
    until(lambda: len(shell.shown[second]) > 6)
    assert len(shell.shown[first]) <= seen + 1
    shell.magics["vrse"]("no such word")


def test_nothing_is_followed_for_ever_that_cannot_be_found_out(
    objects: Objects, small_buffer: SmallBuffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notebook, "_GONE", 3)
    del small_buffer.files[store_path(FILES[0].did)]
    shell = loaded(kernel="kernel")
    shell.magics["vrse"]("")
    for folder in (objects.secret, objects.config):
        (folder / "..data").unlink()
    until(lambda: "not known: There is no session here" in shell.last)
    until(lambda: not [one for one in threading.enumerate() if one.name == "volatile-rse-progress"])


def test_it_waits_for_a_session_that_is_not_usable_yet(
    nothing_mounted: Path,
    small_buffer: SmallBuffer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits = 0

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            nonlocal waits
            if timeout is None:
                # Of a thread that begins.
                return super().wait()
            waits += 1
            assert timeout == notebook._EVERY
            if waits == 3:
                Objects(nothing_mounted, small_buffer)
            return False

    shell = loaded(kernel="kernel")
    monkeypatch.setattr(threading, "Event", Stop)
    assert shell.magics["vrse"](" wait ") is None
    assert waits == 3
    assert capsys.readouterr().out.count("There is no session here") == 1
    assert "2 of 2 files staged" in shell.last


def test_an_interrupt_ends_the_waiting(nothing_mounted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert nothing_mounted
    shell = loaded(kernel="kernel")

    def interrupted() -> vrse.Session:
        raise KeyboardInterrupt

    monkeypatch.setattr(notebook, "current", interrupted)
    assert shell.magics["vrse"]("wait") is None


def test_it_says_what_to_do_without_a_session(nothing_mounted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert nothing_mounted
    shell = loaded()
    assert shell.magics["vrse"]("") is None
    assert "There is no session here" in capsys.readouterr().out
    assert shell.magics["vrse"]("status") is None
    assert "not 'status'" in capsys.readouterr().out


@pytest.mark.parametrize("gone", ["buffer", "session"])
def test_what_is_over_is_not_waited_for(
    small_buffer: SmallBuffer,
    objects: Objects,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    gone: str,
) -> None:
    monkeypatch.setattr(notebook, "_GONE", 3)
    del small_buffer.files[store_path(FILES[0].did)]
    looks = 0

    class Event(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            nonlocal looks
            if timeout != notebook._EVERY:
                return super().wait(timeout)
            looks += 1
            if looks == 2:
                small_buffer.close() if gone == "buffer" else (objects.secret / "token").unlink()
            assert looks < 20, "it waits for ever"
            return False

    monkeypatch.setattr(threading, "Event", Event)
    assert loaded(kernel="kernel").magics["vrse"]("wait") is None
    assert "nothing is waited for any more" in capsys.readouterr().out
    assert looks == 5
