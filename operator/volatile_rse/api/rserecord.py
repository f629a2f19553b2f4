"""RSERecord: one real buffer, what exists for it in Rucio and on disk, whose it is, and what became of it."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

from volatile_rse.api.rucioconnection import RucioConnectionSpec
from volatile_rse.api.schema import Account, ApiModel, DnsLabel, Quantity, cel
from volatile_rse.api.volatilerse import VolatileRSESpec
from volatile_rse.api.volatilerseclass import VolatileRSEClassSpec

__all__ = [
    "ChosenDestination",
    "Claim",
    "FrozenInput",
    "Outcome",
    "PublicAddress",
    "RSERecordSpec",
    "RSERecordStatus",
    "SessionTruth",
]

Time = Annotated[str, Field(max_length=32, json_schema_extra={"format": "date-time"})]
Port = Annotated[int, Field(ge=1, le=65535)]


class PublicAddress(ApiModel):
    """Where Rucio's daemons reach the buffer; never changes during the life of its RSE."""

    host: Annotated[str, Field(max_length=253)]
    root_port: Port
    davs_port: Port


class Claim(ApiModel):
    """One VolatileRSE's share of the buffer."""

    uid: Annotated[str, Field(max_length=64)]
    namespace: DnsLabel
    name: Annotated[str, Field(max_length=253)]
    account: Account
    request: VolatileRSESpec
    """The request as it was when the buffer was made: the record can finish the work alone."""


class RSERecordSpec(ApiModel):
    """Written once."""

    record_id: Annotated[str, Field(pattern=r"^[a-z2-7]{10}$", max_length=10)]
    rse_name: Annotated[str, Field(max_length=64)]
    instance: Annotated[str, Field(max_length=128)]
    """Which operator on which cluster made this buffer; no other one touches it."""
    ledger: Annotated[str, Field(max_length=276)]
    """DID of the dataset that lists what was registered on this RSE."""
    capacity: Quantity
    class_name: DnsLabel
    class_snapshot: VolatileRSEClassSpec
    connection_name: DnsLabel
    connection_snapshot: RucioConnectionSpec
    claims: Annotated[
        list[Claim],
        Field(
            min_length=1,
            max_length=1,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["uid"]},
        ),
    ]
    public: PublicAddress | None = None
    """Set once, when the cluster has given the ports."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                cel(
                    "self.recordId == oldSelf.recordId && self.rseName == oldSelf.rseName", "the identity never changes"
                ),
                cel(
                    "self.instance == oldSelf.instance && self.ledger == oldSelf.ledger", "the ownership never changes"
                ),
                cel(
                    "!has(oldSelf.public) || (has(self.public) && self.public == oldSelf.public)", "public is set once"
                ),
            ]
        }
    )


class SessionTruth(ApiModel):
    """Start and end of the session; an end is irrevocable."""

    ready_at: Time | None = None
    started_at: Time | None = None
    last_seen_at: Time | None = None
    ended_at: Time | None = None
    end_reason: Annotated[str, Field(max_length=64)] | None = None


class FrozenInput(ApiModel):
    """What an input resolved to, once."""

    name: DnsLabel
    files: Annotated[int, Field(ge=0)]
    bytes: Annotated[int, Field(ge=0)]
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", max_length=64)]
    """SHA-256 of the sorted list of files with sizes and checksums."""


class ChosenDestination(ApiModel):
    """Destination RSEs of one output, chosen once."""

    output: DnsLabel
    rses: Annotated[list[Annotated[str, Field(max_length=64)]], Field(min_length=1, max_length=8)]


class Outcome(ApiModel):
    """What became of the buffer."""

    files: Annotated[int, Field(ge=0)]
    bytes: Annotated[int, Field(ge=0)]
    datasets: Annotated[list[Annotated[str, Field(max_length=276)]], Field(max_length=32)] = []
    exceptions: Annotated[list[Annotated[str, Field(max_length=512)]], Field(max_length=100)] = []


class RSERecordStatus(ApiModel):
    """The truths that outlive every process; each is written before what it permits."""

    observed_generation: int = -1
    phase: Annotated[str, Field(max_length=32)] | None = None
    """Display only."""
    message: Annotated[str, Field(max_length=4096)] | None = None
    """What is awaited or stands in the way, also when no VolatileRSE is left to say it."""
    session: SessionTruth = SessionTruth()
    inputs: Annotated[list[FrozenInput], Field(max_length=32)] | None = None
    destinations: Annotated[list[ChosenDestination], Field(max_length=32)] | None = None
    steps: Annotated[dict[str, Time], Field(max_length=32)] = {}
    """Step begun -> when."""
    safe_at: Time | None = None
    freed_at: Time | None = None
    closed_at: Time | None = None
    outcome: Outcome | None = None
