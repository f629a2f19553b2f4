"""Values that are exchanged with the catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from volatile_rse.api.conditions import Reason
from volatile_rse.domain.times import later

__all__ = [
    "ATTRIBUTE_LENGTH",
    "Barred",
    "BufferRse",
    "DatasetState",
    "Did",
    "File",
    "ForeignRule",
    "LedgerOwner",
    "Room",
    "RseState",
    "RuleState",
    "Standing",
    "Term",
    "attribute_text",
    "lasts",
]

_LESS = timedelta(hours=1)
"""What a rule may lack of its time, a tenth at most: it counts down, and clocks differ."""


ATTRIBUTE_LENGTH = 255
"""Characters of an RSE attribute's value that Rucio's database has room for."""


def attribute_text(value: object) -> str:
    """Give the one form of an RSE attribute's value: Rucio stores texts, and answers with truth values for two of them.

    ``True``, ``"True"`` and ``"true"`` are one value there, and what some databases have for an empty text is nothing.
    """
    text = "" if value is None else str(value)
    return text.lower() if text.lower() in {"true", "false"} else text


@dataclass(frozen=True, slots=True, order=True)
class Did:
    """A data identifier."""

    scope: str
    name: str

    @classmethod
    def parse(cls, text: str) -> Did:
        """Split ``scope:name``."""
        scope, _, name = text.partition(":")
        return cls(scope, name)

    def __str__(self) -> str:
        return f"{self.scope}:{self.name}"


@dataclass(frozen=True, slots=True, order=True)
class File:
    """A file as the catalogue knows it."""

    did: Did
    bytes: int
    adler32: str
    """Eight lower-case hex digits; empty: it has none."""
    md5: str = ""
    """Thirty-two lower-case hex digits, where that is all there is."""
    lack: str = ""
    """Why it can be no input, with what it lacks; empty: it can. It is listed all the same, as one that is missing."""


@dataclass(frozen=True, slots=True)
class Barred:
    """Where a file is that cannot be read from there."""

    reason: Reason
    """ON_TAPE or IN_ARCHIVE."""
    where: str
    """The RSE, or the PFN of the archive."""

    def __str__(self) -> str:
        place = f"inside the archive {self.where}"
        return place if self.reason is Reason.IN_ARCHIVE else f"on tape only, at {self.where}"


@dataclass(frozen=True, slots=True)
class DatasetState:
    """What stands under the name of a user's dataset."""

    account: str
    is_dataset: bool
    """Not a file or a container."""
    open: bool
    maker: str | None = None
    """Record that has made it, where that was asked."""


@dataclass(frozen=True, slots=True)
class RuleState:
    """A rule on a user's dataset."""

    id: str
    state: str
    """As Rucio calls it; a rule that has not seen all files yet is OK, too."""
    ok: int
    """Locks that are OK."""
    wanted: int
    """Locks that it has to have."""
    stuck: int = 0
    """Locks for which Rucio has no source, or could not transfer."""


@dataclass(frozen=True, slots=True)
class Room:
    """What an account may still lock on an RSE."""

    bytes: int | None
    """None: any amount."""
    by: str = ""
    """What leaves no more: the limit, as people find it in Rucio."""


@dataclass(frozen=True, slots=True)
class Term:
    """How long a rule has to hold what a session has written."""

    lifetime: int | None
    """Seconds; None: for ever."""
    since: datetime
    """From when on: does not move while something else is waited for, so that a rule that was long enough stays so."""

    def met_by(self, end: datetime | None, now: datetime) -> bool:
        """Tell whether a rule that ends then is enough; of one that was waited for long, half has to be left."""
        if end is None or self.lifetime is None:
            return end is None
        whole = timedelta(seconds=self.lifetime)
        return lasts(end, self.lifetime, self.since) and end > later(now, whole / 2)


def lasts(end: datetime | None, lifetime: int | None, since: datetime) -> bool:
    """Tell whether a rule that ends then holds for a lifetime from a moment on; None: for ever."""
    if end is None or lifetime is None:
        return end is None
    whole = timedelta(seconds=lifetime)
    return end >= later(since, whole - min(whole / 10, _LESS))


@dataclass(frozen=True, slots=True)
class LedgerOwner:
    """Whose buffer a ledger dataset belongs to; stored in its metadata, so that it outlives the cluster."""

    instance: str
    record_id: str
    maker: str = ""
    """Operator that made the RSE, whose mark it bears for good; empty as long as no other one has taken it over."""

    def heir(self, instance: str) -> LedgerOwner:
        """Give the owner that it has once an instance has taken it over."""
        return self if instance == self.instance else LedgerOwner(instance, self.record_id, self.made_by)

    @property
    def made_by(self) -> str:
        """Operator whose mark the RSE must bear."""
        return self.maker or self.instance


@dataclass(frozen=True, slots=True)
class BufferRse:
    """The RSE of a buffer as it must be: deterministic, ``hash`` algorithm, DISK, prefix ``/store/``."""

    name: str
    host: str
    root_port: int
    davs_port: int
    attributes: Mapping[str, str] = field(default_factory=dict)
    """The class's own and the operator's ``vrse_*``."""
    availability_read: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """What is on a buffer, and where else it is."""

    states: Mapping[Did, str]
    """Replicas on the buffer, hidden ones too, with their state letters."""
    last: tuple[Did, ...]
    """Files without an AVAILABLE replica on any permanent RSE."""


@dataclass(frozen=True, slots=True)
class RseState:
    """An RSE as it is."""

    name: str
    lacks: tuple[str, ...]
    """Flags, attributes and protocols that are not as BufferRse asks, and how they are."""
    deletable: bool
    """``availability_delete``: whether Rucio's reaper may touch it."""

    @property
    def complete(self) -> bool:
        """Tell whether all are as BufferRse asks."""
        return not self.lacks


@dataclass(frozen=True, slots=True)
class ForeignRule:
    """A replication rule with a lock on a buffer."""

    id: str
    account: str
    did: Did
    only_here: bool
    """All its locks lie on the buffer: it may be expired; otherwise it blocks the drain."""
