"""Whether sessions may write: what the agent desires and what the supervisor has done, each in a file of the volume.

The files outlive every process, so a fenced buffer stays fenced whatever restarts.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from volatile_rse.agent.places import Places
from volatile_rse.api.agent import GateState

__all__ = ["Gate", "GateError"]

_OPEN = GateState(mode="open", generation=0)
_DOWN = GateState(mode="down", generation=0)


class GateError(RuntimeError):
    """The gate cannot be moved as asked, or its state cannot be read."""


@dataclass(frozen=True, slots=True)
class Gate:
    """The two files."""

    places: Places

    def desired(self) -> GateState:
        """Tell what shall be; open before anything was asked."""
        return self._read("gate.desired.json", _OPEN)

    def actual(self) -> GateState:
        """Tell what is; down before the supervisor has said anything."""
        return self._read("gate.actual.json", _DOWN)

    def fence(self, generation: int) -> GateState:
        """Ask for the fence, for good; the same generation again changes nothing.

        Raises
        ------
        GateError
            A later fence was asked for before.
        """
        now = self.desired()
        if generation < now.generation:
            message = (
                f"fence {generation} is older than fence {now.generation}: the operator must read the record again"
            )
            raise GateError(message)
        wanted = GateState(mode="fenced", generation=generation)
        if wanted != now:
            self._write("gate.desired.json", wanted)
        return wanted

    def reached(self, state: GateState) -> None:
        """Say what is."""
        self._write("gate.actual.json", state)

    def _read(self, name: str, absent: GateState) -> GateState:
        path = self.places.control / name
        try:
            return GateState.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return absent
        except ValidationError as error:
            # Never guess: an unreadable gate must not open by itself.
            message = f"{path} is damaged: an administrator must write {{'mode': 'fenced', 'generation': N}} into it"
            raise GateError(message) from error

    def _write(self, name: str, state: GateState) -> None:
        folder = self.places.control
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".{name}"
        with temporary.open("w") as stream:
            stream.write(state.model_dump_json())
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(folder / name)
        _sync(folder)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
