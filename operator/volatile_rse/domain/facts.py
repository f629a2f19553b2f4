"""What is known of one buffer at one moment; None means that it was not asked, or that no answer came."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from volatile_rse.api.agent import CopyState, InputState, Manifest, OutputState, Report
from volatile_rse.api.rserecord import PublicAddress, RSERecordSpec, RSERecordStatus
from volatile_rse.api.rucioconnection import RucioConnectionSpec
from volatile_rse.api.volatilerse import Discard, EntryStatus, OutputStatus, Preview, VolatileRSESpec
from volatile_rse.api.volatilerseclass import VolatileRSEClassSpec
from volatile_rse.domain.catalogue import DatasetState, Did, File, ForeignRule, RseState, RuleState
from volatile_rse.domain.problems import Problem, Quarantined
from volatile_rse.domain.session import JobRef
from volatile_rse.domain.tenants import Namespace

__all__ = [
    "Changed",
    "Facts",
    "Judged",
    "Leftover",
    "Lost",
    "Piece",
    "PodFact",
    "Record",
    "Request",
    "ServiceFact",
    "SessionFact",
    "Storage",
    "Usage",
    "VolumeFact",
]


class Piece(StrEnum):
    """The objects that one buffer has in the namespace of buffers."""

    KEYS = "keys"
    """The key of session tokens, the certificates of XRootD and of the agent, and XRootD's configuration."""
    INPUTS = "inputs"
    SERVICE = "service"
    VOLUME = "volume"
    POD = "pod"


@dataclass(frozen=True, slots=True)
class Request:
    """A VolatileRSE."""

    namespace: str
    name: str
    uid: str
    generation: int
    deleting: bool
    held: bool
    """Our finalizer is on it."""
    namespace_terminating: bool
    spec: VolatileRSESpec | None
    tenant: Namespace | None = None
    """Its namespace, read after it; None: there is none."""
    invalid: str = ""
    """Why ``spec`` cannot be read."""
    outputs: tuple[OutputStatus, ...] = ()
    """What it says of its outputs, as they were at an earlier look."""
    entries: tuple[EntryStatus, ...] = ()
    """What it says of entries that were added or removed."""
    end_requested: bool = False
    """Read by itself, as is the next: also where ``spec`` cannot be read."""
    discard: Discard | None = None
    extend_until: datetime | None = None
    """Until when its session shall live."""
    previewed: bool = False
    """It was a dry run, and what would come of it is told already."""
    ttl_after_finished: timedelta | None = None
    """When it shall be deleted, from the moment on in which nothing of it is at risk any more."""


@dataclass(frozen=True, slots=True)
class Record:
    """An RSERecord."""

    name: str
    uid: str
    version: str
    """``resourceVersion``: what was decided upon it is written only on it."""
    spec: RSERecordSpec
    status: RSERecordStatus
    created: datetime | None = None
    held: bool = False
    """Our finalizer is on it: nobody's deletion takes the truth about a buffer away while there is one."""
    unreadable: tuple[str, ...] = ()
    """Truths that could not be read: ``status`` has the safer reading of each, which is not written yet."""
    partial: bool = False
    """Of ``spec`` only what an end needs could be read: whose it is, and the session's times. Nothing else is there."""


@dataclass(frozen=True, slots=True)
class PodFact:
    """The storage pod."""

    uid: str
    ready: bool
    """Its readiness as Kubernetes sees it: only then do Services lead to it."""
    over: bool
    """It finished, failed or is being deleted: it will not come back by itself."""
    running: bool = False
    """It has its volume, and some of its containers run or start again."""
    address: str = ""
    """IP address, once it has one."""
    ready_since: datetime | None = None
    message: str = ""
    """Why it is not ready."""
    held: bool = False
    """It is labelled as one that nobody may evict."""


@dataclass(frozen=True, slots=True)
class VolumeFact:
    """The claim of the storage volume, and the volume behind it."""

    uid: str
    volume: str | None = None
    """PersistentVolume, once bound."""
    retained: bool | None = None
    """The volume outlives its claim; None before it is bound."""
    marked: bool = False
    """The volume says whose it is, so that it is found without its claim."""


@dataclass(frozen=True, slots=True)
class ServiceFact:
    """The public Service."""

    uid: str
    root_port: int | None
    davs_port: int | None
    drained: bool
    """The empty server stands behind it."""


@dataclass(frozen=True, slots=True, order=True)
class Leftover:
    """An object of a buffer that is none of its pieces."""

    kind: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Storage:
    """What exists of the buffer in the cluster."""

    pieces: Mapping[Piece, str] = field(default_factory=dict)
    """Piece -> UID of its object."""
    going: frozenset[Piece] = frozenset()
    """Being deleted already."""
    outdated: frozenset[Piece] = frozenset()
    """Certificates to be renewed, and what an older operator has made without."""
    leftovers: tuple[Leftover, ...] = ()
    """Objects with this buffer's label that are no pieces of it: an older operator's, or the rest of a long list."""
    pod: PodFact | None = None
    volume: VolumeFact | None = None
    outlived: str | None = None
    """PersistentVolume with this buffer's bytes that has outlived its claim, and that no claim is bound to."""
    lost: bool = False
    """The volume that was bound to the claim is gone, or no volume is left without a claim."""
    service: ServiceFact | None = None
    drain_ready: bool = False
    """The empty server of this public host runs."""
    drain_refused: str = ""
    """Why the cluster makes no pod of it."""


@dataclass(frozen=True, slots=True)
class Changed:
    """An object of the session that is not as it was written."""

    kind: str
    name: str
    uid: str
    by: str
    """The programs that say they wrote it; empty: this operator, by another authority or version."""
    since: datetime | None
    """When the object was made; None: it is being deleted already."""


@dataclass(frozen=True, slots=True)
class SessionFact:
    """What is seen of the session in its own namespace."""

    running: bool = False
    finished: bool = False
    jobs: tuple[JobRef, ...] = ()
    """Those that control its pods, the latest ones first."""
    awaited: str = ""
    """The Job that may start another pod, though the session's end is due otherwise."""
    objects: bool = False
    """Its Secret and ConfigMap are there, ours, and as they were written."""
    changed: tuple[Changed, ...] = ()
    """Those of them that are ours, and not as they were written."""
    outdated: tuple[Changed, ...] = ()
    """Those that are as they were written, before entries were added or removed."""
    remains: bool = False
    """One of them is there and ours, and nobody has deleted it yet."""
    foreign: str = ""
    """The object of somebody else that has the name of one of them."""


@dataclass(frozen=True, slots=True, order=True)
class Lost:
    """One file that is given up."""

    path: str
    """Below the outbox; empty if only the catalogue knew of it."""
    did: str
    """``scope:name``; empty if it never got a name."""
    bytes: int
    adler32: str
    copies: tuple[str, ...] = ()
    """Where it was sent: bytes that may lie there, and that nobody else removes unless Rucio lists them."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What buffers of one class that are not closed take together: a namespace's, or those of one of its accounts."""

    buffers: int = 0
    bytes: int = 0
    """Sum of their capacities."""
    quarantined: int = 0
    """Bytes."""
    files: int = 0
    """Inputs whose list is frozen, and outputs that are not safe."""
    recent: int = 0
    """Buffers that began within the last hour, closed ones too."""
    over: int = 0
    """Closed ones whose VolatileRSE is still there."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What is known of an entry that was added while the session lives, before it is taken up."""

    problems: tuple[Problem, ...] = ()
    """Why it cannot be."""
    files: tuple[File, ...] = ()
    """Of an input."""
    rses: tuple[str, ...] = ()
    """Where an output goes."""
    tight: str = ""
    """Why not all that the session may write can be held there."""


@dataclass(frozen=True, slots=True)
class Facts:
    """All of it; which fields are asked depends on the stage of the record."""

    now: datetime
    request: Request | None = None
    record: Record | None = None
    class_: VolatileRSEClassSpec | None = None
    connection: RucioConnectionSpec | None = None
    quarantined: Quarantined = field(default_factory=Quarantined)
    """Of the class; asked before there is a record."""
    usage: Usage = field(default_factory=Usage)
    """Of the namespace in the class; asked before there is a record."""
    owner_usage: Usage = field(default_factory=Usage)
    """Of the account in the namespace in the class: before there is a record, and of all others when inputs are."""
    unheld: tuple[tuple[str, str], ...] = ()
    """Kind and name of class and connection, where they are not held yet."""
    going: tuple[str, ...] = ()
    """Class or connection that is being deleted."""
    problems: tuple[Problem, ...] = ()
    """What could not be asked, and what is wrong with the answers."""
    unseen: Problem | None = None
    """Why the buffer could not be looked at at all; then nothing but the request and its record is known."""
    preview: Preview | None = None
    """What would come of a dry run."""
    storage: Storage = Storage()
    session: SessionFact = SessionFact()
    public_address: PublicAddress | None = None
    """What the Service was given."""
    report: Report | None = None
    unreported: bool = False
    """There is no report since the time of the visit was over: nothing is told by that of the agent."""
    resolved: Mapping[str, tuple[File, ...]] | None = None
    """Input -> its files."""
    chosen: Mapping[str, tuple[str, ...]] | None = None
    """Output -> its destination RSEs."""
    tight: Mapping[str, str] = field(default_factory=dict)
    """Output -> why not all that the session may write can be held there."""
    judged: Mapping[tuple[str, str], Judged] = field(default_factory=dict)
    """Kind and name of an entry that was added and is not taken up yet -> what was found."""
    frozen: Mapping[str, tuple[File, ...]] | None = None
    """The list of input files, as it was frozen."""
    manifest: Manifest | None = None
    """What the agent must be given; None if it has it."""
    ledger: bool | None = None
    rse: RseState | None = None
    rse_asked: bool = False
    registered: frozenset[Did] | None = None
    """What was ever registered on the buffer."""
    replicas: Mapping[Did, str] | None = None
    """On the buffer, by the ledger: file -> state letter."""
    inputs: tuple[InputState, ...] | None = None
    outputs: tuple[OutputState, ...] | None = None
    told: tuple[OutputState, ...] | None = None
    """What the agent tells of outputs where ``outputs`` is not known, believed or not: nothing but a list to show."""
    copies: tuple[CopyState, ...] | None = None
    datasets: Mapping[str, DatasetState | None] = field(default_factory=dict)
    """Output of which something is still to be copied or attached -> what stands under its dataset's name now."""
    versions: Mapping[Did, File] = field(default_factory=dict)
    """Output file that is still to be kept -> the version of its path that its dataset has from another session."""
    turns: Mapping[Did, int] = field(default_factory=dict)
    """Dataset -> when its content was looked at, told by what others had added."""
    pfns: Mapping[tuple[str, Did], str] = field(default_factory=dict)
    """(RSE, output file) -> where its copy goes."""
    unsafe: Mapping[str, tuple[Did, ...]] | None = None
    """Output -> files without an AVAILABLE replica on every chosen RSE."""
    unlocked: frozenset[str] | None = None
    """Outputs whose rule is missing, not OK, or ends too early."""
    held_by: Mapping[str, str] = field(default_factory=dict)
    """Of all others of which something is there: the rule that holds it."""
    rules: Mapping[str, RuleState] = field(default_factory=dict)
    """Of those, the rules that are there while every file is."""
    found_again: frozenset[Did] = frozenset()
    """Files that Rucio no longer knows as safe, and that every destination of theirs was just seen to have."""
    last_copies: tuple[Did, ...] | None = None
    given_up: frozenset[Did] = frozenset()
    """Files whose loss was consented to and written down."""
    written_off: tuple[Lost, ...] = ()
    """The list of them, as it was written."""
    foreign_rules: tuple[ForeignRule, ...] | None = None
    unusable: str | None = None
    """Why the session cannot read now; empty: it can."""
    unproven: bool = False
    """That is not known since the time of the visit was over."""
    writable: bool | None = None
    """Whether a session's token can still write."""

    @property
    def tenant(self) -> Namespace | None:
        """The namespace of its VolatileRSE; None: there is no VolatileRSE, or no namespace any more."""
        return None if self.request is None else self.request.tenant
