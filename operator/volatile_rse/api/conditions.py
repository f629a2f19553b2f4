"""Conditions and reasons: the one place that names them, what they mean, who must act and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from volatile_rse.api.schema import ApiModel
from volatile_rse.api.text import CONDITION, shown_within

__all__ = [
    "MEANINGS",
    "REMEDIES",
    "Actor",
    "ClassCondition",
    "Condition",
    "ConditionType",
    "Reason",
    "Remedy",
    "Status",
    "conditions_by_type",
]

Status = Literal["True", "False", "Unknown"]


class ConditionType(StrEnum):
    """Condition types of a VolatileRSE; every one is present from the first visit."""

    READY = "Ready"
    """For kstatus: True while Usable, and True/Completed when the end is reached with outputs safe or discarded."""
    USABLE = "Usable"
    """This session can read its inputs through the endpoint now."""
    STORAGE_READY = "StorageReady"
    """The storage pod serves XRootD and its agent answers."""
    RSE_REGISTERED = "RSERegistered"
    """The RSE, its protocols and its ledger dataset exist in Rucio."""
    INPUTS_STAGED = "InputsStaged"
    """Every input file that must be there is there, with the checksum that Rucio knows."""
    CREDENTIALS_VALID = "CredentialsValid"
    """The credentials for the sites of this buffer exist and are complete."""
    SESSION_ACTIVE = "SessionActive"
    """A pod of the session runs, or a lease holds it."""
    OUTPUTS_SAFE = "OutputsSafe"
    """Verified replicas of every output exist at its destination, asked live from Rucio."""
    DELETING = "Deleting"
    """The VolatileRSE is being deleted; the message says what is awaited."""
    STALLED = "Stalled"
    """Only a change of the spec, or of what it refers to, can help."""


class ClassCondition(StrEnum):
    """Condition types of a VolatileRSEClass: what it offers, as the operator has tried it; no session waits for any."""

    READY = "Ready"
    """All the others are True."""
    CONFIGURATION_VALID = "ConfigurationValid"
    """Every field of the class can be used."""
    CATALOGUE_USABLE = "CatalogueUsable"
    """Rucio takes the operator's login; its account may make RSEs, and the scope of the ledgers exists."""
    SITES_USABLE = "SitesUsable"
    """Every site that the class has a token for answers, and takes the token for reading."""
    EXPOSURE_USABLE = "ExposureUsable"
    """The public host leads to the buffers' NodePorts, as seen from inside the cluster."""
    INJECTION_WORKS = "InjectionWorks"
    """A pod gets by the label of its session alone what the session has, where its namespace is one of a tenant."""


class Actor(StrEnum):
    """Who must act on a failure."""

    USER = "USER"
    ADMIN = "ADMIN"
    NOBODY = "NOBODY"


class Reason(StrEnum):
    """Reasons of conditions; REMEDIES says who must act and what to do."""

    PENDING = "Pending"
    SUCCEEDED = "Succeeded"
    COMPLETED = "Completed"
    NOT_NEEDED = "NotNeeded"
    IN_PROGRESS = "InProgress"
    USABLE = "Usable"
    WAITING_FOR_SESSION = "WaitingForSession"
    SESSION_RUNNING = "SessionRunning"
    SESSION_ENDED = "SessionEnded"
    DELETION_REQUESTED = "DeletionRequested"
    NOT_DELETING = "NotDeleting"
    NOT_STALLED = "NotStalled"
    READ_FAILED = "ReadFailed"
    UNKNOWN_CLASS = "UnknownClass"
    UNKNOWN_CONNECTION = "UnknownConnection"
    ACCOUNT_NOT_GRANTED = "AccountNotGranted"
    NAMESPACE_NOT_GRANTED = "NamespaceNotGranted"
    SCOPE_NOT_GRANTED = "ScopeNotGranted"
    DID_NOT_FOUND = "DIDNotFound"
    NO_REPLICA = "NoReplica"
    ON_TAPE = "OnTape"
    IN_ARCHIVE = "InArchive"
    INPUTS_TOO_LARGE = "InputsTooLarge"
    INPUT_UNPLACEABLE = "InputUnplaceable"
    TOO_MANY_SCOPES = "TooManyScopes"
    INPUT_UNUSABLE = "InputUnusable"
    CAPACITY_OVER_LIMIT = "CapacityOverLimit"
    TTL_OVER_LIMIT = "TtlOverLimit"
    NO_DESTINATION = "NoDestination"
    DATASET_REFUSED = "DatasetRefused"
    NAMING_INVALID = "NamingInvalid"
    NAME_REFUSED = "NameRefused"
    PATH_ESCAPES_OUTBOX = "PathEscapesOutbox"
    PATH_INVALID = "PathInvalid"
    CREDENTIAL_MISSING = "CredentialMissing"
    CREDENTIAL_INVALID = "CredentialInvalid"
    CREDENTIAL_MISMATCH = "CredentialMismatch"
    CATALOGUE_UNREACHABLE = "CatalogueUnreachable"
    CATALOGUE_REFUSED = "CatalogueRefused"
    CATALOGUE_IMPLAUSIBLE = "CatalogueImplausible"
    FOREIGN_OBJECT = "ForeignObject"
    STAGING_FAILED = "StagingFailed"
    COPY_FAILED = "CopyFailed"
    LAST_COPY = "LastCopy"
    LAST_COPY_OF_INPUT = "LastCopyOfInput"
    FOREIGN_RULE = "ForeignRule"
    BUFFER_UNREACHABLE = "BufferUnreachable"
    BUFFER_REFUSED = "BufferRefused"
    BUFFER_IMPLAUSIBLE = "BufferImplausible"
    DOORS_DISAGREE = "DoorsDisagree"
    CLOCK_SKEW = "ClockSkew"
    CLUSTER_UNREACHABLE = "ClusterUnreachable"
    CLUSTER_REFUSED = "ClusterRefused"
    NODE_PORTS_EXHAUSTED = "NodePortsExhausted"
    NODE_PORTS_LOW = "NodePortsLow"
    CHANGED_MEANWHILE = "ChangedMeanwhile"
    OUT_OF_TIME = "OutOfTime"
    ANSWER_UNUSABLE = "AnswerUnusable"
    OPERATOR_FAULT = "OperatorFault"
    INVALID_SPEC = "InvalidSpec"
    CONFIGURATION_INVALID = "ConfigurationInvalid"
    RECORD_UNREADABLE = "RecordUnreadable"
    INPUTS_CHANGED = "InputsChanged"
    FENCE_LATE = "FenceLate"
    FENCE_UNPROVEN = "FenceUnproven"
    SEALING_FAILED = "SealingFailed"
    QUOTA_EXCEEDED = "QuotaExceeded"
    QUOTA_LOW = "QuotaLow"
    STORAGE_PENDING = "StoragePending"
    SESSION_OVER = "SessionOver"
    STORAGE_UNSUITABLE = "StorageUnsuitable"
    STORAGE_LOST = "StorageLost"
    STAGING_STALLED = "StagingStalled"
    INPUTS_LATE = "InputsLate"
    DURABILITY_TOO_LOW = "DurabilityTooLow"
    QUARANTINED = "Quarantined"
    QUARANTINE_FULL = "QuarantineFull"
    LIMIT_EXCEEDED = "LimitExceeded"
    DISCARDED = "Discarded"
    DISCARD_REFUSED = "DiscardRefused"
    SESSION_ENDING = "SessionEnding"
    SESSION_OBJECT_CHANGED = "SessionObjectChanged"
    UNMATCHED_FILES = "UnmatchedFiles"
    OUTPUT_EMPTY = "OutputEmpty"
    NOT_PUBLISHED = "NotPublished"
    CATALOGUE_REVERTED = "CatalogueReverted"
    VERSION_EXISTS = "VersionExists"
    RULE_INSUFFICIENT = "RuleInsufficient"
    RIGHTS_MISSING = "RightsMissing"
    SITE_UNREACHABLE = "SiteUnreachable"
    SITE_REFUSED = "SiteRefused"
    PUBLIC_HOST_UNREACHABLE = "PublicHostUnreachable"
    WAITING_FOR_BUFFER = "WaitingForBuffer"
    BUFFER_USABLE = "BufferUsable"
    UNKNOWN_VOLATILE_RSE = "UnknownVolatileRSE"
    NOT_INJECTED = "NotInjected"
    INJECTION_MISSING = "InjectionMissing"


@dataclass(frozen=True, slots=True)
class Remedy:
    """Who must act on a reason, and what to do."""

    actor: Actor
    action: str


REMEDIES: dict[Reason, Remedy] = {
    Reason.UNKNOWN_CLASS: Remedy(
        Actor.USER, "Name a class that `kubectl get vrseclass` lists, or ask an admin to create it."
    ),
    Reason.UNKNOWN_CONNECTION: Remedy(
        Actor.ADMIN,
        "Create the RucioConnection that the class names (`kubectl get rucioconnection` lists those that there are), "
        "or correct the class (`kubectl edit vrseclass`).",
    ),
    Reason.ACCOUNT_NOT_GRANTED: Remedy(
        Actor.USER, "Use an account that the class grants to this namespace, or ask an admin for the grant."
    ),
    Reason.NAMESPACE_NOT_GRANTED: Remedy(
        Actor.ADMIN,
        "Give the namespace the label that the named grant wants (`kubectl label namespace`), or change the class's "
        "spec.tenancy.grants, counted from 0. A namespace that was made again has another uid.",
    ),
    Reason.SCOPE_NOT_GRANTED: Remedy(
        Actor.USER,
        "Use scopes that the class grants to this namespace, or ask an admin for the grant. Files of other scopes than "
        "their dataset's have to be granted, too, or left out: name a dataset without them in a new VolatileRSE.",
    ),
    Reason.DID_NOT_FOUND: Remedy(
        Actor.USER,
        "Remove the entry from spec.inputs, and add one with the right did under another name; `rucio did list "
        "SCOPE:*` shows what exists.",
    ),
    Reason.NO_REPLICA: Remedy(
        Actor.USER,
        "Choose another sourceRSEExpression, or have the data replicated to a permanent RSE first. One that is not "
        "deterministic counts only where the class names it (nonDeterministicSources).",
    ),
    Reason.ON_TAPE: Remedy(
        Actor.USER,
        "Have Rucio bring the files to disk first: `rucio rule add DID --copies 1 --rses RSE`, with an RSE on disk "
        "that sourceRSEExpression has. Once that rule is OK (`rucio rule show ID`), this VolatileRSE goes on by "
        "itself. Nothing here reads from tape: Rucio does not tell whether a file there is on disk, too.",
    ),
    Reason.IN_ARCHIVE: Remedy(
        Actor.USER,
        "Name the archive itself as an input, in a new VolatileRSE, and let the session unpack it; or have whoever "
        "made it upload the files as they are (`rucio upload`), which lets this one go on. A buffer takes no file out "
        "of an archive.",
    ),
    Reason.INPUTS_TOO_LARGE: Remedy(Actor.USER, "Ask for more capacity, or for fewer inputs."),
    Reason.INPUT_UNPLACEABLE: Remedy(
        Actor.USER,
        "Leave the named files out: put the others into a dataset of your own, and name that in a new VolatileRSE, or "
        "ask for a lower minimumPercent there. Two files with one path go into two VolatileRSEs.",
    ),
    Reason.TOO_MANY_SCOPES: Remedy(
        Actor.USER, "Divide the inputs among several VolatileRSEs, so that the files of each are in fewer scopes."
    ),
    Reason.INPUT_UNUSABLE: Remedy(
        Actor.USER,
        "Go without the named files: ask for a lower minimumPercent in a new VolatileRSE, or name a dataset without "
        "them. Or have whoever registered them correct them in Rucio, with a size and an adler32 or md5 checksum: that "
        "lets this one go on.",
    ),
    Reason.CAPACITY_OVER_LIMIT: Remedy(
        Actor.USER, "Ask for less capacity in a new VolatileRSE, or ask an admin for a larger class."
    ),
    Reason.TTL_OVER_LIMIT: Remedy(
        Actor.USER,
        "Ask for a shorter spec.session.ttl in a new VolatileRSE, or ask an admin for a class with a longer maxTtl.",
    ),
    Reason.NO_DESTINATION: Remedy(
        Actor.USER,
        "Choose a destination.rseExpression that matches enough RSEs that can keep outputs (`rucio rse list --rses …`, "
        "`rucio rse show`): permanent, deterministic, on disk, to be written by davs from outside.",
    ),
    Reason.DATASET_REFUSED: Remedy(
        Actor.USER,
        "Name another dataset in a new VolatileRSE: nothing is copied for this output. What its session has written "
        "already is kept until the dataset takes it, or until it is given up by spec.teardown.discard.",
    ),
    Reason.NAMING_INVALID: Remedy(Actor.ADMIN, "Correct that field of the class (`kubectl edit vrseclass`)."),
    Reason.NAME_REFUSED: Remedy(Actor.USER, "Create another VolatileRSE whose output is called as the message says."),
    Reason.PATH_ESCAPES_OUTBOX: Remedy(
        Actor.USER, "Write spec.outputs[].path relative to the outbox: no leading '/', no '..' component."
    ),
    Reason.PATH_INVALID: Remedy(
        Actor.USER,
        "Create another VolatileRSE whose spec.outputs[].path is written as the message says: no file would be taken "
        "by this one. It is a glob as in bash (docs/user.md).",
    ),
    Reason.CREDENTIAL_MISSING: Remedy(
        Actor.ADMIN,
        "Create the Secret that the class or the connection names (`kubectl create secret generic`), in the "
        "operator's namespace, with what the message says is missing; docs/install.md has the commands. A site that "
        "gives its files to everybody needs no token where the class says so (spec.sites[].anonymous), for "
        "VolatileRSEs made since.",
    ),
    Reason.CREDENTIAL_INVALID: Remedy(
        Actor.ADMIN,
        "Write the named key of the Secret anew (`kubectl edit secret`): the value as plain text without a byte order "
        "mark, the key as docs/operations.md has it.",
    ),
    Reason.CREDENTIAL_MISMATCH: Remedy(
        Actor.ADMIN,
        "Compare the Secret with the RucioConnection, the VolatileRSEClass or the protocol of the RSE that the "
        "message names: whichever is wrong has to be mended (`kubectl edit`). Until then the Secret's values are sent "
        "nowhere.",
    ),
    Reason.CATALOGUE_UNREACHABLE: Remedy(
        Actor.ADMIN,
        "Bring the Rucio server back (`curl -v URL/ping` from a pod tells whether it answers); nothing destructive "
        "happens until then and the session goes on.",
    ),
    Reason.CATALOGUE_REFUSED: Remedy(
        Actor.ADMIN,
        "Mend what the message names: a right that the operator's Rucio account lacks, a dataset that was closed, a "
        "file that Rucio knows otherwise, replicas of others that have to go. It is tried again by itself.",
    ),
    Reason.CATALOGUE_IMPLAUSIBLE: Remedy(
        Actor.ADMIN,
        "Look at what answers at the server of the RucioConnection: a proxy before Rucio, another version of it, or "
        "what somebody has written into its database. Nothing is done by such an answer; it is asked again by itself.",
    ),
    Reason.FOREIGN_OBJECT: Remedy(
        Actor.USER, "Rename or remove the object of that name: it is not the operator's and is never overwritten."
    ),
    Reason.READ_FAILED: Remedy(
        Actor.ADMIN,
        "Have the address that the message names lead to the buffer: the operator's pods have to reach the public host "
        "and its NodePorts, too. If they do, the log of the storage pod that the record names says more. It is tried "
        "again by itself.",
    ),
    Reason.STAGING_FAILED: Remedy(
        Actor.ADMIN,
        "Have the sites mend the replicas of the listed files, each of which says why it could not be had, or have "
        "Rucio make others. They are tried again by themselves.",
    ),
    Reason.COPY_FAILED: Remedy(
        Actor.ADMIN,
        "Mend what the destination says of the listed files: its service, its room, or the token that the class has "
        "for it. The files stay in the buffer, and are copied again until it succeeds.",
    ),
    Reason.LAST_COPY: Remedy(
        Actor.ADMIN, "Replicate the named files to a permanent RSE: the buffer holds their last copy."
    ),
    Reason.LAST_COPY_OF_INPUT: Remedy(
        Actor.ADMIN,
        "Replicate the named inputs to a permanent RSE: every other replica of theirs has gone since they were staged.",
    ),
    Reason.FOREIGN_RULE: Remedy(
        Actor.ADMIN, "Ask the named account to remove its replication rule, which also locks files elsewhere."
    ),
    Reason.BUFFER_UNREACHABLE: Remedy(
        Actor.ADMIN,
        "Look at the storage pod that the record names: its agent does not answer. Where it refuses the operator's "
        "certificate, or the operator the agent's, compare the clocks of their nodes.",
    ),
    Reason.BUFFER_REFUSED: Remedy(
        Actor.ADMIN,
        "Look at the log of the storage pod that the record names: its agent refused what the message says.",
    ),
    Reason.BUFFER_IMPLAUSIBLE: Remedy(
        Actor.ADMIN,
        "Look into the storage pod that the record names: its agent tells what cannot be, and nothing is done by it. "
        "Keep its volume; delete the pod to have another agent look at it. What stays unbelievable can be given up by "
        "spec.teardown.discard, without the VolatileRSE by spec.discard of the record, once the deadline is over.",
    ),
    Reason.DOORS_DISAGREE: Remedy(
        Actor.ADMIN,
        "Have the davs protocols of the named RSE lead to the same files, or give the one that readers are sent to a "
        "priority for wan write in Rucio, so that copies go by it (0 comes before 1, null means never). The outputs "
        "stay in the buffer until they are where Rucio sends readers: copy those that are elsewhere by hand, or give "
        "them up by spec.teardown.discard once the deadline is over.",
    ),
    Reason.CLOCK_SKEW: Remedy(
        Actor.ADMIN,
        "Set the clocks of that node and of the operator's right (NTP): nothing else has to be changed, and what was "
        "refused is tried again by itself.",
    ),
    Reason.CLUSTER_UNREACHABLE: Remedy(Actor.ADMIN, "Bring the Kubernetes API server back."),
    Reason.CLUSTER_REFUSED: Remedy(
        Actor.ADMIN,
        "Mend what the message names: a right that the operator's service account lacks, a policy or a quota that "
        "forbids it, an object that is too large. It is tried again by itself.",
    ),
    Reason.NODE_PORTS_EXHAUSTED: Remedy(
        Actor.ADMIN,
        "Wait, or make room: the buffer goes on by itself when another one is drained or another Service of the type "
        "NodePort is deleted. Two ports are needed. See which buffers are kept from going (`kubectl get rser`), or "
        "widen the API server's --service-node-port-range (docs/operations.md).",
    ),
    Reason.NODE_PORTS_LOW: Remedy(
        Actor.ADMIN,
        "See which buffers are kept from going (`kubectl get rser`), or widen the API server's "
        "--service-node-port-range; then tell the operator its size (nodePorts of the chart, docs/operations.md).",
    ),
    Reason.CHANGED_MEANWHILE: Remedy(Actor.NOBODY, "The operator reads the object again and retries by itself."),
    Reason.OUT_OF_TIME: Remedy(
        Actor.NOBODY,
        "The next visit has more time, and asks again. What takes so long says so itself, in another condition or in "
        "the operator's log.",
    ),
    Reason.ANSWER_UNUSABLE: Remedy(
        Actor.ADMIN,
        "Mend what the message names, if it is odd there, and report it with the traceback from the operator's log. It "
        "is asked again by itself; the end of the session, its fence and the deadline of its deletion do not wait for "
        "it.",
    ),
    Reason.OPERATOR_FAULT: Remedy(
        Actor.ADMIN,
        "Report it with the traceback from the operator's log. It tries again by itself; the end of the session, its "
        "fence and the deadline of its deletion do not wait for it.",
    ),
    Reason.INVALID_SPEC: Remedy(Actor.USER, "Correct the named field; the kind's schema says what is allowed."),
    Reason.CONFIGURATION_INVALID: Remedy(
        Actor.ADMIN,
        "Correct the named field (`kubectl edit vrseclass` or `kubectl edit rucioconnection`); kinds and operator are "
        "of one version.",
    ),
    Reason.RECORD_UNREADABLE: Remedy(
        Actor.ADMIN,
        "Run the version of the operator that has written the record, or mend what was changed by hand "
        "(docs/operations.md); until then nothing is done about this buffer but to end its session, and nothing of it "
        "is destroyed.",
    ),
    Reason.INPUTS_CHANGED: Remedy(
        Actor.USER, "Create another VolatileRSE: the dataset is not what it was when this one froze its list of files."
    ),
    Reason.FENCE_LATE: Remedy(
        Actor.ADMIN,
        "Read the log of the container xrootd of the storage pod that the record names, and look at its volume: "
        "XRootD does not end or does not start, or what it has open cannot be marked. It is tried again by itself.",
    ),
    Reason.FENCE_UNPROVEN: Remedy(
        Actor.ADMIN,
        "Read the log of the container xrootd of the storage pod that the record names, and compare the clocks of its "
        "node and the operator's: XRootD does not take what it must take, so that nobody knows why it refuses the "
        "session. Nothing is sealed until it does; it is tried again by itself.",
    ),
    Reason.SEALING_FAILED: Remedy(
        Actor.ADMIN,
        "See the listed files, each of which says why: mend the volume of the storage pod, and they are tried again; "
        "or copy them by hand. What cannot be sealed is given up by spec.teardown.discard alone.",
    ),
    Reason.QUOTA_EXCEEDED: Remedy(
        Actor.USER, "Free quota of the account at the destination (`rucio account limit list`), or ask for more."
    ),
    Reason.QUOTA_LOW: Remedy(
        Actor.USER,
        "Free quota or ask for more before the session ends, if it writes that much; what finds no quota then is kept "
        "in the buffer until there is some.",
    ),
    Reason.STORAGE_PENDING: Remedy(
        Actor.ADMIN, "Look at the storage pod that the record names; `kubectl describe` tells why it does not start."
    ),
    Reason.STORAGE_UNSUITABLE: Remedy(
        Actor.ADMIN,
        "Give the class a StorageClass whose volumes have a local file system with all of that (ext4, XFS; not NFS or "
        "CIFS), or a memory volume on nodes with Linux 6.6 or later. The VolatileRSE is then made anew: this one keeps "
        "its class as it was.",
    ),
    Reason.STORAGE_LOST: Remedy(
        Actor.USER,
        "Write again what the session had written before: the medium lost it; a class with durable storage keeps it. "
        "Where lost files are counted, the RSE stays until you acknowledge their loss by spec.teardown.discard.",
    ),
    Reason.STAGING_STALLED: Remedy(
        Actor.ADMIN,
        "Mend what keeps the named files from arriving, as the message says: the site, its token or the network. "
        "Staging goes on, and the session starts once they are there.",
    ),
    Reason.INPUTS_LATE: Remedy(
        Actor.USER,
        "Create another VolatileRSE once what the message names is mended, by the admins of that site, of Rucio or of "
        "the cluster where it is theirs: this one never begins, and nothing of its buffer stays. A longer deadline, or "
        "onDeadline: Continue, waits longer.",
    ),
    Reason.DURABILITY_TOO_LOW: Remedy(
        Actor.USER,
        "Choose a class of more durable storage, or accept the loss by spec.minimumDurability in a new VolatileRSE.",
    ),
    Reason.QUARANTINED: Remedy(
        Actor.USER,
        "Wait, or clear what the message names: all is kept and tried again. To give it up, set spec.teardown.discard; "
        "without the VolatileRSE an admin sets spec.discard of the RSERecord.",
    ),
    Reason.QUARANTINE_FULL: Remedy(
        Actor.ADMIN, "Have the named buffers made safe or discarded, or raise the class's quarantine limits."
    ),
    Reason.LIMIT_EXCEEDED: Remedy(
        Actor.USER,
        "End another session, or delete a VolatileRSE whose session is over; this one begins by itself when there is "
        "room for it. An admin may raise the limit that the message names.",
    ),
    Reason.DISCARD_REFUSED: Remedy(
        Actor.USER,
        "Set spec.teardown.discard of the VolatileRSE, with the name of this buffer's RSE (status.rse) as its rse.",
    ),
    Reason.SESSION_ENDING: Remedy(
        Actor.USER,
        "Write what is to be kept into the outbox before that time; to go on longer, raise "
        "spec.session.extendUntil, which counts as long as the class's maxTtl lets it.",
    ),
    Reason.SESSION_OBJECT_CHANGED: Remedy(
        Actor.USER,
        "Leave the Secret and the ConfigMap of the session as they are. The operator never uses what others write "
        "there, and makes both anew, at most once a minute.",
    ),
    Reason.UNMATCHED_FILES: Remedy(
        Actor.USER,
        "Move the named files to where spec.outputs[].path takes them before the session ends, or have them declared "
        "in a new VolatileRSE: files of no output go with the buffer.",
    ),
    Reason.OUTPUT_EMPTY: Remedy(
        Actor.USER,
        "Compare spec.outputs[].path with the named files, and have them written again to a new VolatileRSE whose path "
        "takes them: what no output took has gone with the buffer.",
    ),
    Reason.NOT_PUBLISHED: Remedy(
        Actor.USER,
        "Give the named files another name, or delete them, before the session ends: each path is published once.",
    ),
    Reason.VERSION_EXISTS: Remedy(
        Actor.USER,
        "Take the older version out of the dataset (`rucio did content remove`), and this one takes its place; or give "
        "this one up by spec.teardown.discard. A later session writes it under another path, or to another dataset.",
    ),
    Reason.CATALOGUE_REVERTED: Remedy(
        Actor.ADMIN,
        "Rucio is not what it was: an older state of its database was restored, or the files were taken from it. What "
        "the destination still has is registered again by itself; register the rest by hand, or restore a newer state. "
        "The storage stands until Rucio lists all of them at their destination.",
    ),
    Reason.RULE_INSUFFICIENT: Remedy(
        Actor.USER,
        "See the named rule (`rucio rule show`). Files of the dataset that its RSEs lack have to get there, or out of "
        "the dataset. A rule that ends too early has to go (`rucio rule remove`): the operator makes one that lasts "
        "once Rucio has removed it.",
    ),
    Reason.RIGHTS_MISSING: Remedy(
        Actor.ADMIN,
        "Have an admin of Rucio run the named command. Sessions begin by themselves once it has been done.",
    ),
    Reason.SITE_UNREACHABLE: Remedy(
        Actor.ADMIN,
        "See that the operator's namespace and the buffers' reach the site (`curl -v URL` from a pod), and that the "
        "class's caConfigMap has the authority of its certificate; else ask the admins of the site.",
    ),
    Reason.SITE_REFUSED: Remedy(
        Actor.ADMIN,
        "Put another token into the Secret (`kubectl edit secret`), or tell by its key HOST_paths which folders the "
        "token is for. A site that gives files to everybody is named in the class's spec.sites as anonymous.",
    ),
    Reason.PUBLIC_HOST_UNREACHABLE: Remedy(
        Actor.ADMIN,
        "See that the class's spec.exposure.publicHost is a node, or forwards to one, and that the range of NodePorts "
        "is open to pods, too (`nc -vz HOST PORT` from one).",
    ),
    Reason.UNKNOWN_VOLATILE_RSE: Remedy(
        Actor.USER,
        "Create the VolatileRSE in this namespace, or name another one by the label volatilerse.io/session of a new "
        "pod.",
    ),
    Reason.NOT_INJECTED: Remedy(
        Actor.ADMIN,
        "Give the namespace the label volatilerse.io/tenant=true, and see that the class's condition InjectionWorks is "
        "True; then the user makes the pod anew. Or the user mounts the Secret and the ConfigMap of the session by "
        "hand, as docs/user.md has it.",
    ),
    Reason.INJECTION_MISSING: Remedy(
        Actor.ADMIN,
        "For an API server with MutatingAdmissionPolicy: `kubectl apply -f manifests/injection-policy.yaml` "
        "(`injection: policy` of the chart); else `kubectl apply -f manifests/injection-webhook.yaml` (`injection: "
        "webhook`). Until then users mount Secret and ConfigMap by hand.",
    ),
    Reason.SESSION_OVER: Remedy(
        Actor.USER, "Create another VolatileRSE: this one's session has ended, and it never runs again."
    ),
}
"""Every failing reason; the others need nobody to act."""


MEANINGS: dict[Reason, str] = {
    Reason.PENDING: "It has not begun, or nobody has looked yet.",
    Reason.SUCCEEDED: "It is as it should be.",
    Reason.COMPLETED: "It is over, as it was meant to be.",
    Reason.NOT_NEEDED: "Nothing of this kind was asked for.",
    Reason.IN_PROGRESS: "It is being worked on; the message says what is awaited.",
    Reason.USABLE: "The session can read its inputs and write its outputs.",
    Reason.WAITING_FOR_SESSION: "The buffer is usable, and no pod or lease of the session has come yet.",
    Reason.SESSION_RUNNING: "A pod of the session runs, or a lease holds it.",
    Reason.SESSION_ENDED: "The session is over; what it has written is kept from here on.",
    Reason.DELETION_REQUESTED: "The VolatileRSE is being deleted; the message says what is awaited.",
    Reason.NOT_DELETING: "Nobody has asked for its deletion.",
    Reason.NOT_STALLED: "Nothing keeps it from going on by itself.",
    Reason.READ_FAILED: (
        "A file of the buffer could not be read with the session's rights, by the address that the session gets."
    ),
    Reason.UNKNOWN_CLASS: "There is no VolatileRSEClass of the name in spec.className.",
    Reason.UNKNOWN_CONNECTION: "The class names a RucioConnection that does not exist.",
    Reason.ACCOUNT_NOT_GRANTED: "The class lets no one use that Rucio account from this namespace.",
    Reason.NAMESPACE_NOT_GRANTED: (
        "A grant of the class would fit, and the namespace lacks a label or the uid that it wants."
    ),
    Reason.SCOPE_NOT_GRANTED: (
        "The class does not let this namespace read or write a scope that inputs or outputs are in."
    ),
    Reason.DID_NOT_FOUND: "Rucio has no file, dataset or container of that name.",
    Reason.NO_REPLICA: "Files of an input have no replica at a permanent site that may be a source.",
    Reason.ON_TAPE: "Files of an input are on tape only.",
    Reason.IN_ARCHIVE: "Files of an input exist only inside an archive.",
    Reason.INPUTS_TOO_LARGE: "The inputs have more bytes than spec.capacity.",
    Reason.INPUT_UNPLACEABLE: "Files of an input have names that the buffer has no place for.",
    Reason.TOO_MANY_SCOPES: "The inputs are in so many scopes that no client could use a token for all of them.",
    Reason.INPUT_UNUSABLE: "Files of an input have no size or no checksum in Rucio.",
    Reason.CAPACITY_OVER_LIMIT: "spec.capacity is more than the class allows.",
    Reason.TTL_OVER_LIMIT: "spec.session.ttl is more than the class allows.",
    Reason.NO_DESTINATION: "Too few RSEs of a destination can keep outputs.",
    Reason.DATASET_REFUSED: (
        "The dataset of an output is closed, another account's, no dataset, or exists while ifExists is Fail."
    ),
    Reason.NAMING_INVALID: "A template of the class for names cannot be used.",
    Reason.NAME_REFUSED: "The naming of the class takes no scope or dataset of that name.",
    Reason.PATH_ESCAPES_OUTBOX: "The path of an output leads out of the session's outbox.",
    Reason.PATH_INVALID: "The path of an output is no glob that could take a file.",
    Reason.CREDENTIAL_MISSING: "A Secret, or a key of it, that is needed to reach Rucio or a site is not there.",
    Reason.CREDENTIAL_INVALID: "A value of a Secret cannot be a password or a token.",
    Reason.CREDENTIAL_MISMATCH: "A Secret is not meant for the server or the site that it would be sent to.",
    Reason.CATALOGUE_UNREACHABLE: "Rucio does not answer.",
    Reason.CATALOGUE_REFUSED: "Rucio refuses something that is needed.",
    Reason.CATALOGUE_IMPLAUSIBLE: "Rucio's answer cannot be true, and nothing is done by it.",
    Reason.FOREIGN_OBJECT: "An object of a name that is needed exists, and is somebody else's.",
    Reason.STAGING_FAILED: "Input files could not be brought from any source.",
    Reason.COPY_FAILED: "Output files could not be copied to their destination.",
    Reason.LAST_COPY: "The buffer holds the last replica of a file, and so is not removed.",
    Reason.LAST_COPY_OF_INPUT: (
        "Every other replica of an input has gone since it was staged, and so the buffer is not removed."
    ),
    Reason.FOREIGN_RULE: "A replication rule of somebody else holds files on the buffer.",
    Reason.BUFFER_UNREACHABLE: "The agent of the storage pod does not answer.",
    Reason.BUFFER_REFUSED: "The agent of the storage pod refuses what it was asked.",
    Reason.BUFFER_IMPLAUSIBLE: "The agent of the storage pod tells what cannot be.",
    Reason.DOORS_DISAGREE: "A copy is not where Rucio sends readers of its destination.",
    Reason.CLOCK_SKEW: "Clocks of nodes are so far apart that tokens or certificates are refused.",
    Reason.OUT_OF_TIME: "The time of one look at the buffer was over before this was asked.",
    Reason.CLUSTER_UNREACHABLE: "The API server of Kubernetes does not answer the operator.",
    Reason.CLUSTER_REFUSED: "The API server of Kubernetes refuses something that is needed.",
    Reason.NODE_PORTS_EXHAUSTED: "No NodePort is left for the buffer.",
    Reason.NODE_PORTS_LOW: "Few NodePorts are left for new buffers.",
    Reason.CHANGED_MEANWHILE: "Somebody changed an object while the operator worked on it.",
    Reason.ANSWER_UNUSABLE: "The operator could not make sense of an answer.",
    Reason.OPERATOR_FAULT: "The operator itself made a mistake.",
    Reason.INVALID_SPEC: "A field of the request has a value that cannot be served.",
    Reason.CONFIGURATION_INVALID: "A field of the class or the connection has a value that cannot be used.",
    Reason.RECORD_UNREADABLE: "What the operator has written down of this buffer cannot be read any more.",
    Reason.INPUTS_CHANGED: "The list of input files was lost, and Rucio's list is another one by now.",
    Reason.FENCE_LATE: "The session is over, and its way to write could not be closed yet.",
    Reason.FENCE_UNPROVEN: "It could not be shown yet that the session can write no more.",
    Reason.SEALING_FAILED: "Files that the session has left could not be made ready to be kept.",
    Reason.QUOTA_EXCEEDED: "The account may hold no more at the destination.",
    Reason.QUOTA_LOW: "The account may hold less at the destination than the buffer has room for.",
    Reason.STORAGE_PENDING: "The storage pod has not started yet.",
    Reason.SESSION_OVER: "A pod of the session runs, although the session has ended.",
    Reason.STORAGE_UNSUITABLE: "The volume of the buffer lacks what a buffer needs of a file system.",
    Reason.STORAGE_LOST: "The storage went, with what was not safe yet.",
    Reason.STAGING_STALLED: "Nothing of an input has arrived for its deadline.",
    Reason.INPUTS_LATE: (
        "Nothing of an input with onDeadline Fail arrived for its deadline, and the session was given up."
    ),
    Reason.DURABILITY_TOO_LOW: "The storage of the class outlives less than spec.minimumDurability.",
    Reason.QUARANTINED: "Outputs were not safe within teardown.deadline; all is kept, and tried again.",
    Reason.QUARANTINE_FULL: "The class has so much in quarantine that it takes no new sessions.",
    Reason.LIMIT_EXCEEDED: (
        "The account or the namespace has as many buffers, bytes or files as the class lets it have."
    ),
    Reason.DISCARDED: "Outputs were given up, as somebody asked.",
    Reason.DISCARD_REFUSED: "A discard names another buffer, or comes from somebody who cannot give it yet.",
    Reason.SESSION_ENDING: "The session ends soon, by the clock.",
    Reason.SESSION_OBJECT_CHANGED: "Somebody changed the Secret or the ConfigMap of the session.",
    Reason.UNMATCHED_FILES: "The session has written files that no output takes.",
    Reason.OUTPUT_EMPTY: "An output took nothing, and files that no output takes were left.",
    Reason.NOT_PUBLISHED: "Files were published under a path that had been published before, or could not be taken.",
    Reason.CATALOGUE_REVERTED: "Rucio has forgotten outputs that it knew.",
    Reason.VERSION_EXISTS: "The dataset has another file under the same path, from another session.",
    Reason.RULE_INSUFFICIENT: "A replication rule does not hold the outputs, or not for as long as was asked for.",
    Reason.RIGHTS_MISSING: "The operator's account at Rucio may not do what buffers need.",
    Reason.SITE_UNREACHABLE: "A permanent site does not answer the operator.",
    Reason.SITE_REFUSED: "A permanent site does not take the token that the class has for it.",
    Reason.PUBLIC_HOST_UNREACHABLE: "The public host of a class does not lead to the cluster's NodePorts.",
    Reason.WAITING_FOR_BUFFER: "A pod of the session does not start before its buffer is usable (Event of the pod).",
    Reason.BUFFER_USABLE: "The buffer is usable, and a pod that waited for it may start (Event of the pod).",
    Reason.UNKNOWN_VOLATILE_RSE: "A pod waits for a VolatileRSE that does not exist (Event of the pod).",
    Reason.NOT_INJECTED: (
        "A pod has the label of a session, and nothing that its session has: it is no part of it (Event of the pod)."
    ),
    Reason.INJECTION_MISSING: "Pods with the label of a session do not get what their session has.",
}
"""What each reason says; the message of a condition names the objects."""


class Condition(ApiModel):
    """A ``metav1.Condition``."""

    type: Annotated[str, Field(max_length=316)]
    """What it is about."""
    status: Status
    """True, False or Unknown."""
    reason: Annotated[str, Field(min_length=1, max_length=1024)]
    """Why, in one word; the documentation has a remedy for each."""
    message: Annotated[str, Field(max_length=32768), shown_within(CONDITION)] = ""
    """What happened, to which object, who must act, and what to do."""
    last_transition_time: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    """When its status changed."""
    observed_generation: Annotated[int, Field(ge=0)] | None = None
    """Generation of the spec that it speaks of."""


def conditions_by_type(status: object) -> dict[str, Mapping[str, Any]]:
    """Give the conditions of a status by their types, and none that is no condition: anybody may have written it."""
    listed = status.get("conditions") if isinstance(status, Mapping) else None
    entries = listed if isinstance(listed, list) else ()
    return {str(entry.get("type")): entry for entry in entries if isinstance(entry, Mapping)}
