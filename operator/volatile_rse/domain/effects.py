"""Everything that the operator can do, as data: one executor applies it, and every one may be repeated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from volatile_rse.api.agent import Copies, Manifest, SealRequest, SessionWords
from volatile_rse.api.rserecord import PublicAddress, RSERecordSpec, RSERecordStatus
from volatile_rse.api.volatilerse import Input, Output
from volatile_rse.domain.catalogue import Did, File
from volatile_rse.domain.facts import Changed, Leftover, Lost, Piece

__all__ = [
    "AllowDeletion",
    "Attach",
    "ClaimVolume",
    "Copy",
    "CreateRecord",
    "DeleteRequest",
    "DeleteRse",
    "DropLeftover",
    "DropPiece",
    "Effect",
    "EnsureDataset",
    "EnsureLedger",
    "EnsureRse",
    "EnsureRule",
    "ExpireLedger",
    "ExpireRule",
    "ExtendRecord",
    "Fence",
    "FreePod",
    "FreezeAdded",
    "FreezeInputs",
    "Hide",
    "HoldPod",
    "HoldRequest",
    "HoldUsed",
    "IssueSession",
    "MakeDrain",
    "MakePiece",
    "Register",
    "ReleaseRecord",
    "ReleaseRequest",
    "Remember",
    "RestoreSession",
    "Resume",
    "RetainVolume",
    "RevokeSession",
    "Seal",
    "SendManifest",
    "SetPublic",
    "Suspend",
    "SwapService",
    "TellSession",
    "WriteOff",
]


@dataclass(frozen=True, slots=True)
class HoldRequest:
    """Put our finalizer on the VolatileRSE."""


@dataclass(frozen=True, slots=True)
class DeleteRequest:
    """Delete the VolatileRSE, which has asked for that."""


@dataclass(frozen=True, slots=True)
class ReleaseRequest:
    """Take our finalizer from the VolatileRSE."""


@dataclass(frozen=True, slots=True)
class HoldUsed:
    """Put our finalizer on a class or a connection that a buffer is about to use."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class CreateRecord:
    """Write the record: before anything exists for the buffer."""

    spec: RSERecordSpec


@dataclass(frozen=True, slots=True)
class ReleaseRecord:
    """Take our finalizer from the record: buffer and VolatileRSE are gone."""


@dataclass(frozen=True, slots=True)
class SetPublic:
    """Write the buffer's public address into the record, for its life."""

    address: PublicAddress


@dataclass(frozen=True, slots=True)
class Remember:
    """Write truths into the record, only upon the record that they were decided on."""

    status: RSERecordStatus


@dataclass(frozen=True, slots=True)
class FreezeInputs:
    """Store the list of every input's files beside the buffer."""

    inputs: Mapping[str, Sequence[File]]


@dataclass(frozen=True, slots=True)
class FreezeAdded:
    """Store the lists of inputs that were added while the session lives, each in an object of its own."""

    inputs: Mapping[str, Sequence[File]]


@dataclass(frozen=True, slots=True)
class ExtendRecord:
    """Write entries at the end of the record's lists, whose truths stand in its status."""

    inputs: Sequence[Input]
    outputs: Sequence[Output]


@dataclass(frozen=True, slots=True)
class MakePiece:
    """Create an object of the buffer in the cluster, or renew its certificate."""

    piece: Piece


@dataclass(frozen=True, slots=True)
class DropPiece:
    """Delete an object of the buffer."""

    piece: Piece
    uid: str


@dataclass(frozen=True, slots=True)
class DropLeftover:
    """Delete an object that an older operator has made for the buffer."""

    leftover: Leftover


@dataclass(frozen=True, slots=True)
class HoldPod:
    """Have nobody evict the storage pod: what it has may be nowhere else."""

    uid: str


@dataclass(frozen=True, slots=True)
class FreePod:
    """Let the storage pod be evicted again."""

    uid: str


@dataclass(frozen=True, slots=True)
class RetainVolume:
    """Let the volume outlive its claim, or not."""

    volume: str
    retain: bool


@dataclass(frozen=True, slots=True)
class ClaimVolume:
    """Claim a volume that has outlived its claim: with what is on it."""

    volume: str


@dataclass(frozen=True, slots=True)
class MakeDrain:
    """Start the empty server of this public host, shared by its buffers."""


@dataclass(frozen=True, slots=True)
class SwapService:
    """Put the empty server behind the buffer's address."""


@dataclass(frozen=True, slots=True)
class IssueSession:
    """Create the session's Secret and ConfigMap."""


@dataclass(frozen=True, slots=True)
class RestoreSession:
    """Delete what is not as it was written of the session's Secret and ConfigMap, to make it anew."""

    changed: tuple[Changed, ...]


@dataclass(frozen=True, slots=True)
class RevokeSession:
    """Delete the session's Secret and ConfigMap."""


@dataclass(frozen=True, slots=True)
class SendManifest:
    """Give the agent its work."""

    manifest: Manifest


@dataclass(frozen=True, slots=True)
class TellSession:
    """Have the session's status file say this."""

    words: SessionWords


@dataclass(frozen=True, slots=True)
class Fence:
    """Have the outboxes closed."""

    generation: int


@dataclass(frozen=True, slots=True)
class Seal:
    """Have the outputs sealed."""

    request: SealRequest


@dataclass(frozen=True, slots=True)
class Copy:
    """Have sealed outputs copied to their destinations."""

    copies: Copies


@dataclass(frozen=True, slots=True)
class EnsureLedger:
    """Create the ledger dataset: the first write in Rucio."""


@dataclass(frozen=True, slots=True)
class EnsureRse:
    """Create or complete the RSE."""


@dataclass(frozen=True, slots=True)
class Register:
    """Register files on the buffer and in its ledger."""

    files: Sequence[File]


@dataclass(frozen=True, slots=True)
class EnsureDataset:
    """Create the user's dataset: before anything is copied for it."""

    dataset: Did
    account: str
    fresh: bool = False
    """It must be this record's own: another one may have made it since it was looked for."""


@dataclass(frozen=True, slots=True)
class Attach:
    """Register verified copies and attach them to the user's dataset."""

    dataset: Did
    rse: str
    files: Sequence[File]


@dataclass(frozen=True, slots=True)
class EnsureRule:
    """Hold the user's dataset at its destination."""

    dataset: Did
    account: str
    rses: Sequence[str]
    lifetime: int | None


@dataclass(frozen=True, slots=True)
class ExpireRule:
    """End somebody's rule whose locks all lie on the buffer."""

    rule: str


@dataclass(frozen=True, slots=True)
class Hide:
    """Take replicas on the buffer out of sight."""

    files: Sequence[Did]


@dataclass(frozen=True, slots=True)
class Suspend:
    """Take replicas out of sight whose bytes are lost, so that no file vanishes from Rucio with them."""

    files: Sequence[Did]


@dataclass(frozen=True, slots=True)
class Resume:
    """Show replicas again whose bytes are back."""

    files: Sequence[Did]


@dataclass(frozen=True, slots=True)
class WriteOff:
    """Store the list of what the owner or an admin has given up: before anything of it is destroyed."""

    files: Sequence[Lost]


@dataclass(frozen=True, slots=True)
class AllowDeletion:
    """Let Rucio's reaper delete on the buffer, whose storage is gone."""


@dataclass(frozen=True, slots=True)
class DeleteRse:
    """Deregister the RSE."""


@dataclass(frozen=True, slots=True)
class ExpireLedger:
    """Let the ledger dataset go: the last write in Rucio."""


Effect = (
    HoldRequest
    | HoldUsed
    | DeleteRequest
    | ReleaseRequest
    | CreateRecord
    | ReleaseRecord
    | SetPublic
    | Remember
    | FreezeInputs
    | FreezeAdded
    | ExtendRecord
    | MakePiece
    | DropPiece
    | DropLeftover
    | HoldPod
    | FreePod
    | RetainVolume
    | ClaimVolume
    | MakeDrain
    | SwapService
    | IssueSession
    | RestoreSession
    | RevokeSession
    | SendManifest
    | TellSession
    | Fence
    | Seal
    | Copy
    | EnsureLedger
    | EnsureRse
    | Register
    | EnsureDataset
    | Attach
    | EnsureRule
    | ExpireRule
    | Hide
    | Suspend
    | Resume
    | WriteOff
    | AllowDeletion
    | DeleteRse
    | ExpireLedger
)
