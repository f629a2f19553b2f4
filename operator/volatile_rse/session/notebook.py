"""``%load_ext volatile_rse.session``, then ``%vrse``: the session's table in IPython, which is not imported here."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Mapping
from typing import Protocol

from volatile_rse.session.errors import SessionError
from volatile_rse.session.sessions import Session, current
from volatile_rse.session.table import Table

__all__ = ["Magic", "load_ipython_extension"]

_EVERY = 1.0
"""Seconds between two looks."""
_SELDOM = 15.0
"""Seconds between two looks where nothing changes."""
_GONE = 60
"""How many looks in a row may fail before it is no longer looked."""


class Publisher(Protocol):
    """What shows something below a cell."""

    def publish(
        self, data: Mapping[str, str], *, transient: Mapping[str, str] | None = None, update: bool = False
    ) -> object:
        """Show it, or show it where what has this display_id was shown."""


class Shell(Protocol):
    """What is asked of IPython."""

    display_pub: Publisher

    def register_magic_function(self, func: Callable[[str], object], magic_kind: str, magic_name: str) -> None:
        """Have a function called by ``%name``."""


def load_ipython_extension(shell: Shell) -> None:
    """Register ``%vrse``, as IPython asks of an extension."""
    shell.register_magic_function(Magic(shell).vrse, "line", "vrse")


class Magic:
    """``%vrse`` of one IPython.

    Parameters
    ----------
    shell
        That runs it.
    """

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._stop = threading.Event()

    def vrse(self, line: str = "") -> Session | None:
        """Show this session: what is staged, what is written, and until when it may be used.

        While inputs arrive, what is shown follows them, and other cells may run. ``%vrse wait`` comes back when all
        have arrived; before the session is usable it waits for that, too. Interrupt it to go on earlier.
        """
        if (word := line.strip()) not in ("", "wait"):
            print(f"%vrse takes nothing or wait, not {word!r}.")  # noqa: T201 - a command of a notebook
            return None
        # The one before shows no more; what it has shown stays.
        self._stop.set()
        self._stop = stop = threading.Event()
        if word == "wait":
            return self._wait(stop)
        try:
            session = current()
        except SessionError as error:
            print(error)  # noqa: T201 - as above
            return None
        if not self._is_notebook() or not (table := session._table()).arriving:  # noqa: SLF001 - no method for others
            return session
        shown = _Shown(self._shell.display_pub)
        shown.show(table)
        threading.Thread(target=_follow, args=(session, shown, stop), name="volatile-rse-progress", daemon=True).start()
        return None

    def _wait(self, stop: threading.Event) -> Session | None:
        shown = _Shown(self._shell.display_pub) if self._is_notebook() else None
        told, was_there, lost = "", False, 0
        try:
            while lost < _GONE:
                try:
                    session = current()
                except SessionError as error:
                    if str(error) != told:
                        told = str(error)
                        print(told)  # noqa: T201 - as above
                    # One that has not come yet may still come.
                    lost += was_there
                else:
                    table, was_there = session._table(), True  # noqa: SLF001 - as above
                    lost = lost + 1 if table.arriving is None else 0
                    if shown is not None:
                        shown.show(table)
                    if table.arriving is False:
                        return session if shown is None else None
                stop.wait(_EVERY)
        except KeyboardInterrupt:
            return None
        print("The session is over, or its buffer does not answer: nothing is waited for any more.")  # noqa: T201
        return None

    def _is_notebook(self) -> bool:
        """Tell whether what was shown can be replaced: a terminal would show it again and again."""
        return getattr(self._shell, "kernel", None) is not None


class _Shown:
    """A table below a cell, which is replaced."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._id = {"display_id": uuid.uuid4().hex}
        self._is_there = False

    def show(self, table: Table) -> None:
        """Show it, or replace what is shown."""
        data = {"text/plain": table.text, "text/html": table.html}
        self._publisher.publish(data, transient=self._id, update=self._is_there)
        self._is_there = True


def _follow(session: Session, shown: _Shown, stop: threading.Event) -> None:
    """Show how the inputs arrive, until they have, or nothing can be found out any more."""
    failed, pause, before = 0, _EVERY, None
    while failed < _GONE and not stop.wait(pause):
        table = session._table()  # noqa: SLF001 - as above
        shown.show(table)
        # What never arrives is not asked for every second for ever.
        pause = min(pause * 1.5, _SELDOM) if table.rows == before else _EVERY
        before = table.rows
        if table.arriving is False:
            return
        failed = failed + 1 if table.arriving is None else 0
