"""Where the buffer's files are, in its containers or below another root."""

from __future__ import annotations

import ctypes
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from volatile_rse.api.agent import CONFIG, DATA, PROBE, RUN, TLS

__all__ = ["AREAS", "Places", "sync", "sync_all"]

_FEW = 4
"""Files that are synced one by one."""
_libc = ctypes.CDLL(None, use_errno=True)

AREAS = ("taken", "publish", "outbox")
"""Where a claim's files are until they are sealed; ``taken``: from ``publish``, and out of its session's reach."""


@dataclass(frozen=True, slots=True)
class Places:
    """Directories of the pod's contract."""

    data: Path
    run: Path
    config: Path
    tls: Path

    @classmethod
    def of(cls, environment: Mapping[str, str] = os.environ) -> Places:
        """Take the directories of the contract, except where the environment names others."""
        return cls(
            data=Path(environment.get("VOLATILE_RSE_DATA", DATA)),
            run=Path(environment.get("VOLATILE_RSE_RUN", RUN)),
            config=Path(environment.get("VOLATILE_RSE_CONFIG", CONFIG)),
            tls=Path(environment.get("VOLATILE_RSE_TLS", TLS)),
        )

    @property
    def namespace(self) -> Path:
        """``oss.localroot``."""
        return self.data / "ns"

    @property
    def control(self) -> Path:
        """What no client of XRootD can reach."""
        return self.data / "control"

    def volume(self) -> str:
        """Give the volume's own name, made at its first use: another volume has another one."""
        path = self.control / "volume"
        try:
            return path.read_text()
        except FileNotFoundError:
            self.control.mkdir(parents=True, exist_ok=True)
            fresh = path.with_suffix(".new")
            fresh.write_text(uuid.uuid4().hex)
            fresh.replace(path)
            sync(self.control)
            return path.read_text()

    @property
    def partial(self) -> Path:
        """Files that are still being staged, on the file system of the namespace."""
        return self.control / "partial"

    def area(self, name: str, claim: str) -> Path:
        """Give one of the ``AREAS`` of a claim."""
        return (self.control if name == "taken" else self.namespace) / name / claim

    def make(self) -> None:
        """Create what belongs to the buffer on its volume."""
        for area in ("store", "outbox", "publish", "lease"):
            (self.namespace / area).mkdir(parents=True, exist_ok=True)
        self.partial.mkdir(parents=True, exist_ok=True)
        # There before the volume can be full: it is written anew, and needs no room for that.
        probe = self.on_disk(PROBE)
        probe.parent.mkdir(exist_ok=True)
        probe.touch()

    def on_disk(self, path: str) -> Path:
        """Turn a path of XRootD's namespace into one of the disk."""
        return self.namespace / path.lstrip("/")


def sync(path: Path | str) -> None:
    """Make a file's bytes, or a directory's names, outlive the machine's power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_all(paths: Sequence[Path] | Sequence[str]) -> None:
    """Make the bytes of files of one volume outlive the machine's power; many cost what the volume has unwritten."""
    if len(paths) <= _FEW:
        for path in paths:
            sync(path)
        return
    descriptor = os.open(paths[0], os.O_RDONLY)
    try:
        if _libc.syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), os.fspath(paths[0]))
    finally:
        os.close(descriptor)
