"""RSERecord: one real buffer, what exists for it in Rucio and on disk, whose it is, and what became of it."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

from volatile_rse.api.rucioconnection import RucioConnectionSpec
from volatile_rse.api.schema import DID, Account, ApiModel, Count, DnsLabel, Quantity, Scope, StoredModel, cel
from volatile_rse.api.text import MESSAGE, Words, shown_within
from volatile_rse.api.volatilerse import Discard, VolatileRSESpec
from volatile_rse.api.volatilerseclass import VolatileRSEClassSpec

__all__ = [
    "JOBS",
    "ChosenDestination",
    "Claim",
    "Discarded",
    "FrozenInput",
    "Outcome",
    "PublicAddress",
    "RSERecordSpec",
    "RSERecordStatus",
    "SeenJob",
    "SessionTruth",
]

Time = Annotated[str, Field(max_length=32, json_schema_extra={"format": "date-time"})]
JOBS = 16
"""Jobs of one session that are remembered."""
Port = Annotated[int, Field(ge=1, le=65535)]


class PublicAddress(ApiModel):
    """Where Rucio's daemons reach the buffer; never changes during the life of its RSE."""

    host: Annotated[str, Field(max_length=253)]
    """Of the class: a node, or what forwards to one."""
    root_port: Port
    """NodePort of root://."""
    davs_port: Port
    """NodePort of davs://."""


class Claim(ApiModel):
    """One VolatileRSE's share of the buffer."""

    uid: Annotated[str, Field(max_length=64)]
    """UID of the VolatileRSE."""
    namespace: DnsLabel
    """Of the VolatileRSE."""
    namespace_uid: Annotated[Annotated[str, Field(max_length=64)] | None, Field(alias="namespaceUID")] = None
    """UID of that namespace: one that is made again under its name is another, and has nothing to do with this buffer.
    Absent in records of earlier versions."""
    name: Annotated[str, Field(max_length=253)]
    """Of the VolatileRSE."""
    account: Account
    """Rucio account that owns the outputs."""
    request: VolatileRSESpec
    """The request as it was when the buffer was made, and the entries that were added since, at the end of their
    lists: the record can finish the work alone."""


class RSERecordSpec(ApiModel):
    """Written once."""

    record_id: Annotated[str, Field(pattern=r"^[a-z2-7]{10}$", max_length=10)]
    """Ten characters in the names of everything that belongs to the buffer."""
    rse_name: Annotated[str, Field(max_length=64)]
    """The RSE in Rucio."""
    instance: Annotated[str, Field(max_length=128)]
    """Which operator on which cluster made this buffer; no other one touches it."""
    adopted_from: Annotated[str, Field(max_length=128)] | None = None
    """The operator whose marks the RSE bears, if an admin has had this one take it over: it is brought to its end."""
    ledger: Annotated[str, Field(max_length=276)]
    """DID of the dataset that lists what was registered on this RSE."""
    capacity: Quantity
    """Size of the storage."""
    class_name: DnsLabel
    """VolatileRSEClass that it was made by."""
    class_snapshot: VolatileRSEClassSpec
    connection_name: DnsLabel
    """RucioConnection that it was made by."""
    connection_snapshot: RucioConnectionSpec
    claims: Annotated[
        list[Claim],
        Field(
            min_length=1,
            max_length=1,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["uid"]},
        ),
    ]
    """Who uses it; one, until buffers are shared."""
    public: PublicAddress | None = None
    """Set once, when the cluster has given the ports."""
    discard: Discard | None = None
    """An admin's: give up what is not safe, when no VolatileRSE is left to say so. All else is the operator's."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                cel(
                    "self.recordId == oldSelf.recordId && self.rseName == oldSelf.rseName", "the identity never changes"
                ),
                cel(
                    "self.instance == oldSelf.instance && self.ledger == oldSelf.ledger", "the ownership never changes"
                ),
                # It allows a discard to give up last copies: a buffer that lives never gets it.
                cel(
                    "has(self.adoptedFrom) == has(oldSelf.adoptedFrom)"
                    " && (!has(self.adoptedFrom) || self.adoptedFrom == oldSelf.adoptedFrom)",
                    "an adoption is told at birth",
                ),
                cel(
                    "oldSelf.claims.all(old, self.claims.exists(claim, claim.uid == old.uid && old.request.inputs.all("
                    "input, claim.request.inputs.exists(now, now.name == input.name))))",
                    "inputs of a record are added, and never removed",
                ),
                cel(
                    "!has(oldSelf.discard) || (has(self.discard) && self.discard == oldSelf.discard)",
                    "a discard cannot be taken back or changed",
                ),
                cel(
                    "!has(oldSelf.public) || (has(self.public) && self.public == oldSelf.public)", "public is set once"
                ),
            ]
        }
    )


class SeenJob(StoredModel):
    """A Job that has had pods of the session: as long as it has not ended, it may start another one."""

    name: Annotated[str, Field(max_length=253)]
    """Of the Job, in the namespace of the VolatileRSE."""
    uid: Annotated[str, Field(max_length=64)]
    """Of the Job."""


class SessionTruth(StoredModel):
    """Start and end of the session; an end is irrevocable."""

    ready_at: Time | None = None
    """When the session could read its inputs for the first time; no token exists before."""
    extendable_until: Time | None = None
    """How long it may live at most, as its token does, by the class's ``maxTtl``. Absent in what earlier versions have
    begun: until its ttl."""
    extended_until: Time | None = None
    """Until when it may live as ``extendUntil`` asked and ``extendableUntil`` allows; absent: until its ttl."""
    started_at: Time | None = None
    """When its first pod or lease was seen."""
    last_seen_at: Time | None = None
    """When its last pod or lease was seen; absent while one holds it."""
    leased_until: Time | None = None
    """Until when leases hold it at least, by the buffer's clock; it counts while the buffer does not answer. Absent:
    none does."""
    ended_at: Time | None = None
    """When it ended, for good."""
    end_reason: Annotated[str, Field(max_length=64)] | None = None
    """PodsGone, NobodyCame, TtlExpired, Requested, Deleted, InputsLate or RecordUnreadable."""
    end_message: Words | None = None
    """What an end that nobody asked for was due to."""
    jobs: Annotated[list[SeenJob], Field(max_length=JOBS)] = []
    """Jobs that control its pods, as seen so far, of many the latest: a drained pod tells no more whose it was."""


class FrozenInput(StoredModel):
    """What an input resolved to, once."""

    name: DnsLabel
    """Of the input."""
    files: Count
    """How many."""
    bytes: Count
    """Their size."""
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", max_length=64)]
    """SHA-256 of the sorted list of files with sizes and checksums."""
    unusable: Count = 0
    """How many of them can be no inputs, as Rucio has them: they count as missing."""
    lacks: Words | None = None
    """Some of those, each with what it lacks."""
    added: DID | None = None
    """What it was resolved from, if it was added while the session lived: its list is an object of its own, and nobody
    waits for it. Absent: it is one of the begin."""


class ChosenDestination(StoredModel):
    """Destination RSEs of one output, chosen once."""

    output: DnsLabel
    """Name of the output."""
    rses: Annotated[list[Annotated[str, Field(max_length=64)]], Field(min_length=1, max_length=8)]
    """Where its copies go."""
    tight: Annotated[str, Field(max_length=512)] | None = None
    """Why the account may not hold there all that the session may write; absent: it may."""
    added: bool | None = None
    """It was added while the session lived; absent: it is one of the begin."""


class Outcome(StoredModel):
    """What became of the buffer."""

    files: Count
    """Output files that are safe."""
    bytes: Count
    """Their size."""
    datasets: Annotated[list[Annotated[str, Field(max_length=276)]], Field(max_length=32)] = []
    """DIDs that they were attached to."""
    empty: Annotated[list[DnsLabel], Field(max_length=32)] = []
    """Outputs that took nothing, while files that no output takes were left."""
    unmatched: Count = 0
    """Files that no output takes."""
    exceptions: Annotated[list[Words], Field(max_length=100)] = []
    """What was lost, discarded or left behind: outputs that took nothing, then torn, failed, named by no output,
    skipped, excluded, in this order; the last entry of a longer list says how many more there are."""


class Discarded(StoredModel):
    """What was given up, by whom; the files are listed in the ConfigMap ``vrse-<record id>-discarded``."""

    requested_by: Annotated[str, Field(max_length=253)]
    """Who consented."""
    at: Time
    """When it was carried out."""
    files: Count
    """How many files."""
    bytes: Count
    """Their size."""
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", max_length=64)]
    """SHA-256 of the list of files."""


class RSERecordStatus(StoredModel):
    """The truths that outlive every process; each is written before what it permits."""

    observed_generation: int = -1
    """Generation of the spec that this status speaks of."""
    phase: Annotated[str, Field(max_length=32)] | None = None
    """Display only."""
    message: Annotated[str, Field(max_length=MESSAGE), shown_within(MESSAGE)] | None = None
    """What is awaited or stands in the way, also when no VolatileRSE is left to say it."""
    session: SessionTruth = SessionTruth()
    inputs: Annotated[list[FrozenInput], Field(max_length=32)] | None = None
    """What the inputs resolved to; absent before."""
    scopes: Annotated[list[Scope], Field(max_length=2048)] = []
    """Of the files of the inputs, sorted: what the session's token reads, also when it is made again."""
    added_scopes: Annotated[list[Scope], Field(max_length=2048)] = []
    """Those that inputs have brought which were added since."""
    removed: Annotated[list[DnsLabel], Field(max_length=32)] = []
    """Inputs that were removed while the session lived, for good: nothing new of them is staged."""
    destinations: Annotated[list[ChosenDestination], Field(max_length=32)] | None = None
    """Where the outputs go."""
    volume: Annotated[str, Field(max_length=64)] | None = None
    """The volume's own name, by which its loss is noticed."""
    losses: Annotated[list[Words], Field(max_length=32)] = []
    """What was lost with the storage, and when."""
    mended: Annotated[list[Words], Field(max_length=32)] = []
    """What of this status could not be read, and when: the safer reading stands there since."""
    lost_files: Count | None = None
    """Output files known, and not safe, when the storage was lost: the RSE stays until a discard acknowledges that."""
    lost_bytes: Count | None = None
    """Their size."""
    steps: Annotated[dict[str, Time], Field(max_length=32)] = {}
    """Step begun -> when."""
    files_at_risk: Count | None = None
    """Output files that were not safe yet at the last look; absent until their inventory, and when all are safe."""
    bytes_at_risk: Count | None = None
    """Their size."""
    quarantined_at: Time | None = None
    """When teardown.deadline was over with outputs that were not safe; they are kept and tried again."""
    consent: Discard | None = None
    """The discard that is being carried out, also if the VolatileRSE that asked for it goes meanwhile."""
    discarded: Discarded | None = None
    """What was given up."""
    safe_at: Time | None = None
    """When every output was found safe at its destination, or was discarded."""
    freed_at: Time | None = None
    """When the storage was given up."""
    closed_at: Time | None = None
    """When nothing of the buffer was left but this record."""
    outcome: Outcome | None = None
