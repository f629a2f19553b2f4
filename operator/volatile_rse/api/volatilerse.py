"""VolatileRSE: what an analyst, a hub or a GitOps pipeline asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from volatile_rse.api.conditions import Condition
from volatile_rse.api.schema import (
    DID,
    Account,
    ApiModel,
    Count,
    DnsLabel,
    Durability,
    Duration,
    Moment,
    Quantity,
    RelativePattern,
    RSEExpression,
    Scope,
    cel,
)
from volatile_rse.api.text import CONDITION, Words, shown_within

__all__ = [
    "LONGEST_NAME",
    "SESSION_LABEL",
    "Destination",
    "Discard",
    "Endpoint",
    "EntryStatus",
    "Input",
    "InputStatus",
    "Output",
    "OutputStatus",
    "Preview",
    "PreviewInput",
    "PreviewOutput",
    "PreviewSource",
    "Session",
    "Teardown",
    "UnmatchedStatus",
    "VolatileRSESpec",
    "VolatileRSEStatus",
]

_LIST_BY_NAME: dict[str, Any] = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}


SESSION_LABEL = "volatilerse.io/session"
"""Key of the label of a session's pods, in the namespace of the VolatileRSE; its value is the VolatileRSE's name."""

LONGEST_NAME = 63
"""Characters of a VolatileRSE's name: a label of its pods has no longer value."""

_GONE = "podSelector"
"""Field of a session by which an earlier version knew its pods."""


def _unchanged(message: str) -> ConfigDict:
    """Have the API server refuse another content of an entry."""
    return ConfigDict(json_schema_extra={"x-kubernetes-validations": [cel("self == oldSelf", message)]})


class Direct(ApiModel):
    """The buffer moves the bytes itself."""


class Session(ApiModel):
    """When the session begins and ends.

    Its pods are those of the namespace with the label ``volatilerse.io/session: <name of the VolatileRSE>``. Work
    outside the cluster holds it by leases: small files below ``/lease`` of the buffer.
    """

    start_timeout: Duration = "1h"
    """Counted from first Ready: without a pod or a lease by then, the session has ended."""
    ttl: Duration = "8h"
    """Counted from first Ready: the session's end at the latest, if ``extendUntil`` does not give it longer."""
    extend_until: Moment | None = None
    """Let the session live until then. It is only raised, while the session lives, and counts at most until the class's
    ``maxTtl`` after first Ready; it never shortens what ``ttl`` gives."""
    end_grace: Duration = "5m"
    """How long no pod may run and no lease hold before that is the session's end. A pod whose default container has
    ended for good does not run, and a Job of the pods is awaited until it is Complete or Failed."""
    end_warning: Duration = "10m"
    """How long before its latest end the session is warned, by an Event and in its conditions."""

    @model_validator(mode="before")
    @classmethod
    def _without_gone(cls, stored: object) -> object:
        """Leave out what an earlier version has stored, and what means nothing any more."""
        if isinstance(stored, Mapping) and _GONE in stored:
            return {key: value for key, value in stored.items() if key != _GONE}
        return stored


class Input(ApiModel):
    """Data staged near the session before it starts."""

    name: DnsLabel
    """Names it in the status."""
    did: DID
    """File, dataset or container. Resolved once; the list of files is frozen then."""
    source_rse_expression: Annotated[RSEExpression, Field(alias="sourceRSEExpression")] = "*"
    """Where the bytes may be taken from. Volatile RSEs are never a source."""
    minimum_percent: Annotated[int, Field(ge=0, le=100)] = 100
    """Share of the files without which the session cannot start; the others go on arriving. 0: nobody waits."""
    deadline: Duration = "30m"
    """How long nothing may arrive, while files are missing without which the session cannot start: whatever arrives
    extends it. It begins when the buffer is asked for them; with ``Fail`` when the request is taken up."""
    on_deadline: Literal["Continue", "Fail"] = "Continue"
    """What to do then. ``Continue``: it is told, and staging goes on. ``Fail``: the session never begins, and all of
    the buffer is removed; this VolatileRSE is ``Stalled`` for good."""
    direct: Direct | None = None
    """Method: the buffer pulls the files itself (the only one, and the default)."""

    model_config = _unchanged("an input is never changed: add another one under another name")


class Destination(ApiModel):
    """Where outputs are kept."""

    rse_expression: RSEExpression
    """Permanent RSEs; the choice among the matching ones is made once and recorded."""
    copies: Annotated[int, Field(ge=1, le=8)] = 1
    """How many RSEs."""
    lifetime: Duration | None = None
    """Of the replication rule that holds the outputs there; absent: for ever."""


class Output(ApiModel):
    """Files that are registered and kept when the session ends."""

    name: DnsLabel
    """Names it in the status."""
    path: RelativePattern
    """Glob below the session's outbox, as in bash: ``histograms``, ``**/*.root``, ``run{1..5}/*.{root,h5}``.

    A directory takes all that is below it, ``**`` stands for any number of directories, and wildcards match dots, too.
    The first entry that matches a file, or names a directory above it, takes it; what none takes so goes to the first
    one whose wildcards match a directory above it.
    """
    scope: Scope
    """Of the files and the dataset; the class must grant it."""
    dataset: Annotated[str, Field(pattern=r"^[A-Za-z0-9/][A-Za-z0-9.\-_/#]*$", max_length=200)]
    """Name of the dataset that the files are attached to; created when there is none."""
    if_exists: Literal["Append", "Fail"] = "Append"
    """What to do when the dataset exists already; it must be open, and the account's own, in any case."""
    destination: Destination
    direct: Direct | None = None
    """Method: the buffer copies the files itself (the only one, and the default)."""
    register_: Annotated[Literal["OnSessionEnd", "Continuous"], Field(alias="register")] = "OnSessionEnd"
    """When: at the session's end, or also at once whatever it renames from the outbox into its publish directory."""

    model_config = _unchanged("an output is never changed: add another one under another name")


class Discard(ApiModel):
    """Consent to the loss of all outputs of a buffer that are not safe; it cannot be taken back."""

    rse: Annotated[str, Field(min_length=1, max_length=64)]
    """Name of the buffer's RSE, so that nothing is discarded by mistake."""
    requested_by: Annotated[str, Field(min_length=1, max_length=253)]
    """Who asks for it: the user name that Kubernetes knows the requester by."""


class Teardown(ApiModel):
    """What becomes of outputs that are not safe in time."""

    unsafe_outputs: Literal["Retain"] = "Retain"
    """They are kept: no deadline destroys a byte."""
    deadline: Duration = "1h"
    """Counted from the session's end: what is not safe by then is quarantined, and no deletion waits longer."""
    fetch: bool = False
    """Have a Secret ``<name>-vrse-kept`` by which whoever may read it fetches what is not safe yet, once the session
    has ended: ``vrse fetch`` does. It may be asked for at any time, and goes with the VolatileRSE."""
    discard: Discard | None = None
    """Give up what is not safe, once the session has ended."""


_FIXED = tuple(to_camel(name) for name in Session.model_fields if name != "extend_until")
"""Fields of a session that never change."""


class VolatileRSESpec(ApiModel):
    """A buffer for one analysis session."""

    class_name: DnsLabel
    """VolatileRSEClass."""
    account: Account
    """Rucio account that owns the outputs; the class must grant it to this namespace."""
    on_behalf_of: Annotated[str, Field(min_length=1, max_length=253)] | None = None
    """User of the service that makes this VolatileRSE, such as a JupyterHub, by the service's own name for them; a
    class may grant by it. Only who may `use` `hubusers` of `volatilerse.io` in this namespace can set it."""
    capacity: Quantity
    """Size of the buffer in bytes."""
    minimum_durability: Durability = "Node"
    """What the buffer must outlive at least. `Pod` accepts that what is not safe is lost with the storage pod."""
    session: Session = Session()
    end_requested: bool = False
    """Set it to end the session now; it cannot be taken back."""
    inputs: Annotated[list[Input], Field(max_length=32, json_schema_extra=_LIST_BY_NAME)] = []
    """Data to be staged before the session starts. While it lives, entries may be added and removed, and none is
    changed: `status.entries` tells what became of them. A name is not used again."""
    outputs: Annotated[list[Output], Field(max_length=32, json_schema_extra=_LIST_BY_NAME)] = []
    """Data to be kept when it ends. While the session lives, entries may be added: the same holds for them."""
    teardown: Teardown = Teardown()
    ttl_after_finished: Duration | None = None
    """Have this VolatileRSE deleted so long after its outputs were safe or discarded, or it ended without any; never
    before its storage is freed. Absent: whoever made it deletes it. It may be changed."""
    dry_run: bool = False
    """Only have it said in ``status.preview`` what would come of this request: nothing is made for it, no session ever
    begins, and whoever made it deletes it. Another VolatileRSE, with nothing else changed, is what then begins."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                cel("self.account == oldSelf.account", "account is immutable: create another VolatileRSE"),
                cel(
                    "has(self.onBehalfOf) == has(oldSelf.onBehalfOf)"
                    " && (!has(self.onBehalfOf) || self.onBehalfOf == oldSelf.onBehalfOf)",
                    "onBehalfOf is immutable: create another VolatileRSE",
                ),
                cel("self.className == oldSelf.className", "className is immutable: create another VolatileRSE"),
                cel("self.capacity == oldSelf.capacity", "capacity is immutable: create another VolatileRSE"),
                cel(
                    "oldSelf.outputs.all(old, self.outputs.exists(output, output.name == old.name))",
                    "outputs may be added, and none is removed: create another VolatileRSE",
                ),
                # The record works with what was asked for at first: what it would ignore is refused.
                cel(
                    " && ".join(f"self.session.{name} == oldSelf.session.{name}" for name in _FIXED),
                    "session is immutable but for extendUntil: create another VolatileRSE",
                ),
                cel(
                    "!has(oldSelf.session.extendUntil) || (has(self.session.extendUntil)"
                    " && self.session.extendUntil >= oldSelf.session.extendUntil)",
                    "session.extendUntil is only raised, and never removed",
                ),
                cel(
                    "self.teardown.unsafeOutputs == oldSelf.teardown.unsafeOutputs && "
                    "self.teardown.deadline == oldSelf.teardown.deadline",
                    "teardown is immutable but for discard: create another VolatileRSE",
                ),
                cel(
                    "!has(oldSelf.teardown.discard) || "
                    "(has(self.teardown.discard) && self.teardown.discard == oldSelf.teardown.discard)",
                    "a discard cannot be taken back or changed",
                ),
                cel("self.endRequested || !oldSelf.endRequested", "an end that was requested cannot be taken back"),
                cel("self.dryRun == oldSelf.dryRun", "dryRun is immutable: create another VolatileRSE"),
                cel(
                    "self.minimumDurability == oldSelf.minimumDurability",
                    "minimumDurability is immutable: create another VolatileRSE",
                ),
            ]
        }
    )


class Endpoint(ApiModel):
    """Where the buffer answers."""

    protocol: Literal["root", "davs"]
    """root or davs."""
    url: Annotated[str, Field(max_length=512)]
    """Its begin: a path follows."""


class InputStatus(ApiModel):
    """Progress of one input."""

    name: DnsLabel
    """Of the input."""
    files: Count
    """How many it has."""
    staged: Count = 0
    """How many are on the buffer."""
    failed: Count = 0
    """How many could not be brought from any source."""
    bytes: Count = 0
    """Their size."""
    staged_bytes: Count = 0
    """Size of those that are on the buffer: whole, and with the right checksum."""
    registered: Count | None = None
    """How many of the staged ones Rucio knows on the buffer; absent: all. A class limits their number."""
    eta: Annotated[str, Field(json_schema_extra={"format": "date-time"})] | None = None
    """When all will be there if it goes on as now; absent when they are, or when nothing arrives."""


class OutputStatus(ApiModel):
    """Progress of one output, in files."""

    name: DnsLabel
    """Of the output."""
    files: Count = 0
    """Files that it takes, of those that are in the outbox or sealed."""
    open: Count = 0
    """Files among them whose upload has not ended."""
    sealed: Count = 0
    """Files that the session can no longer change."""
    registered: Count = 0
    """Files that Rucio knows on the buffer."""
    safe: Count = 0
    """Files that are verified and held at their destination."""
    bytes: Count = 0
    """Size of all of them."""
    bytes_at_risk: Count = 0
    """Size of those that are not safe yet."""
    dataset: Annotated[str, Field(max_length=276)] | None = None
    """DID of the dataset that they are attached to."""
    rses: Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=8)] | None = None
    """Where they are kept."""
    rule: Annotated[str, Field(max_length=64)] | None = None
    """Id of the rule that holds them there."""
    rule_state: Annotated[str, Field(max_length=32)] | None = None
    """What Rucio says of that rule, as far as it was asked: OK once it holds every file of this session."""


class EntryStatus(ApiModel):
    """What became of an entry that was added while the session lived, or removed."""

    kind: Literal["Input", "Output"]
    """Of which list it is."""
    name: DnsLabel
    """Of the entry."""
    state: Literal["Pending", "Accepted", "Refused", "Removed"]
    """``Pending``: nobody has judged it yet. ``Accepted``: it is one of the session's entries from now on.
    ``Refused``: the session goes on without it; it is judged again, about once a minute, as long as it is there.
    ``Removed``: nothing new of it is staged."""
    reason: Annotated[str, Field(max_length=64)]
    """As in conditions."""
    message: Annotated[str, Field(max_length=1024)] = ""
    """What happened, who must act, and what to do."""


class UnmatchedStatus(ApiModel):
    """What no output takes: it goes with the buffer."""

    files: Count = 0
    """How many files."""
    bytes: Count = 0
    """Their size."""


class PreviewSource(ApiModel):
    """A site that files would come from."""

    host: Annotated[str, Field(max_length=253), shown_within(253)]
    """Of its door."""
    files: Count
    """For how many of the input's files it is the nearest one."""


class PreviewInput(ApiModel):
    """What an input would be."""

    name: DnsLabel
    """Of the input."""
    files: Count
    """How many it has."""
    bytes: Count
    """Their size."""
    unusable: Count = 0
    """How many of them can be no inputs, as Rucio has them."""
    sources: Annotated[list[PreviewSource], Field(max_length=16)] = []
    """Where they would come from, the site with the most of them first."""


class PreviewOutput(ApiModel):
    """Where an output would go."""

    name: DnsLabel
    """Of the output."""
    rses: Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=8)]
    """RSEs."""
    quota_low: Words | None = None
    """Why not all that the session may write can be held there."""


class Preview(ApiModel):
    """What would come of a request with ``dryRun``, as it was when the operator looked: it looks once."""

    refused: Annotated[list[Annotated[str, Field(max_length=CONDITION), shown_within(CONDITION)]], Field(max_length=64)]
    """Why it would not begin, each with who must act and what to do; empty: nothing is known to be in its way."""
    inputs: Annotated[list[PreviewInput], Field(max_length=32)] = []
    """As far as they can be had."""
    outputs: Annotated[list[PreviewOutput], Field(max_length=32)] = []
    """As far as there is a place for them; none where anything is refused."""
    ready_seconds: Count | None = None
    """After how long it would be usable, by the buffers of its class before it; absent: there were none."""
    like: Count = 0
    """How many of these there were."""


class VolatileRSEStatus(ApiModel):
    """What the operator observed."""

    observed_generation: int = -1
    """Generation of the spec that this status speaks of; -1 before the first visit."""
    phase: Annotated[str, Field(max_length=32)] | None = None
    """Display only; the conditions carry the truth."""
    rse: Annotated[str, Field(max_length=64)] | None = None
    """Name of the RSE in Rucio."""
    record: Annotated[str, Field(max_length=253)] | None = None
    """RSERecord of this buffer."""
    expires: Annotated[str, Field(json_schema_extra={"format": "date-time"})] | None = None
    """When the session ends at the latest."""
    endpoints: Annotated[list[Endpoint], Field(max_length=8)] | None = None
    """Where the session finds the buffer."""
    inputs: Annotated[list[InputStatus], Field(max_length=32, json_schema_extra=_LIST_BY_NAME)] | None = None
    """Progress of the inputs."""
    outputs: Annotated[list[OutputStatus], Field(max_length=32, json_schema_extra=_LIST_BY_NAME)] | None = None
    """Progress of the outputs."""
    entries: (
        Annotated[
            list[EntryStatus],
            Field(
                max_length=128,
                json_schema_extra={
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["kind", "name"],
                },
            ),
        ]
        | None
    ) = None
    """Inputs and outputs that were added while the session lived, and inputs that were removed."""
    preview: Preview | None = None
    """Of a request with ``dryRun``: what would come of it."""
    unmatched: UnmatchedStatus | None = None
    """Files of the outbox and of the publish directory that no output takes."""
    exceptions: Annotated[list[Words], Field(max_length=20)] | None = None
    """What was lost, discarded or left behind in the end; of more, the last entry says how many the record has."""
    conditions: (
        Annotated[
            list[Condition],
            Field(
                max_length=16,
                json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
            ),
        ]
        | None
    ) = None
    """The truth; `phase` is a summary of it."""
