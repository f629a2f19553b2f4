"""Whether sessions may write: what the agent desires and what the supervisor has done, each in a file of the volume.

The files outlive every process, so a fenced buffer stays fenced whatever restarts. On a volume that sessions have
filled they are written in place: that needs no room.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from volatile_rse.agent.ballast import is_full
from volatile_rse.agent.places import Places, sync
from volatile_rse.api.agent import GateState

__all__ = ["Gate", "GateError"]

_OPEN = GateState(mode="open", generation=0)
_DOWN = GateState(mode="down", generation=0)
_DESIRED, _ACTUAL = "gate.desired.json", "gate.actual.json"
_LOOKS = 5
"""At a file that cannot be read: it may be being written in place just now."""
_MOMENT = 0.01


class GateError(RuntimeError):
    """The gate cannot be moved as asked, or its state cannot be read."""


@dataclass(frozen=True, slots=True)
class Gate:
    """The two files."""

    places: Places

    def desired(self) -> GateState:
        """Tell what shall be; open before anything was asked."""
        return self._read(_DESIRED, _OPEN)

    def actual(self) -> GateState:
        """Tell what is; down before the supervisor has said anything."""
        return self._read(_ACTUAL, _DOWN)

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
            self._write(_DESIRED, wanted)
        return wanted

    def prepare(self) -> None:
        """Have the file for what is desired on the volume, before that is full."""
        if not (self.places.control / _DESIRED).exists():
            self._write(_DESIRED, _OPEN)

    def reached(self, state: GateState) -> None:
        """Say what is."""
        self._write(_ACTUAL, state)

    def _read(self, name: str, absent: GateState) -> GateState:
        path = self.places.control / name
        for look in range(1, _LOOKS + 1):
            try:
                return GateState.model_validate_json(path.read_bytes())
            except FileNotFoundError:
                return absent
            except ValidationError as error:
                if look == _LOOKS:
                    # Never guess: an unreadable gate must not open by itself.
                    remedy = "an administrator must write {'mode': 'fenced', 'generation': N} into it"
                    message = f"{path} is damaged: {remedy}"
                    raise GateError(message) from error
                time.sleep(_MOMENT)
        return absent

    def _write(self, name: str, state: GateState) -> None:
        folder = self.places.control
        folder.mkdir(parents=True, exist_ok=True)
        path, temporary, text = folder / name, folder / f".{name}", state.model_dump_json().encode()
        try:
            _overwrite(temporary, text, os.O_CREAT | os.O_TRUNC)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            if not is_full(error) or not path.exists():
                raise
            # So few bytes are of one sector, which is written as a whole or not at all.
            _overwrite(path, text.ljust(path.stat().st_size))
        else:
            temporary.replace(path)
            sync(folder)


def _overwrite(path: Path, text: bytes, flags: int = 0) -> None:
    descriptor = os.open(path, os.O_WRONLY | flags, 0o666)
    try:
        os.pwrite(descriptor, text, 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
