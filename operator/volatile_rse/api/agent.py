"""The protocol between the operator and the agent of a buffer, version 1, and what both know of the buffer's pod."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal, Protocol, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from volatile_rse.api.addresses import FOLDER, FOLDER_LENGTH, FOLDERS
from volatile_rse.api.names import fault_of_path, file_name, rse_path
from volatile_rse.api.patterns import Reach, reach_of
from volatile_rse.api.schema import LARGEST, ApiModel, DnsLabel, RelativePattern, Scope
from volatile_rse.api.text import Words

__all__ = [
    "AGENT_PORT",
    "CONFIG",
    "CONNECTIONS",
    "DATA",
    "DAVS_PORT",
    "EXCLUDES",
    "HANDSHAKE",
    "LONGEST_PAGE",
    "PATH_LENGTH",
    "PROBE",
    "ROOT_PORT",
    "RUN",
    "STATUS_FOLDER",
    "TLS",
    "UID",
    "WARNING",
    "Copies",
    "CopyOrder",
    "CopyPage",
    "CopyState",
    "CopyTarget",
    "CopyTotals",
    "Failure",
    "FenceRequest",
    "GateState",
    "InputFile",
    "InputPage",
    "InputState",
    "InputTotals",
    "LeaseTotals",
    "Listing",
    "Located",
    "Manifest",
    "OutputPage",
    "OutputRule",
    "OutputState",
    "OutputTotals",
    "Report",
    "SealRequest",
    "SealState",
    "SessionWords",
    "SiteTokens",
    "Space",
    "ToldOutput",
    "Warned",
    "listed",
    "rule_of",
    "status_path",
]

HANDSHAKE = bytes(12) + (4).to_bytes(4, "big") + (2012).to_bytes(4, "big")
"""What every client of XRootD begins with, by the root protocol."""

UID = 10940
"""User of every container of the buffer; also the fsGroup of its pod."""
ROOT_PORT = 1094
DAVS_PORT = 8443
AGENT_PORT = 9443
CONNECTIONS = 2048
"""To one of the two public ports at a time. XRootD has a thread for each, and some more for who asks it in its pod."""
EXCLUDES = (
    "**/.ipynb_checkpoints/**",
    "**/__pycache__/**",
    "**/.Trash*/**",
    "**/.nfs*",
    "**/.~*",
    "**/*~",
    "**/*.swp",
)
"""What programs leave lying about: no output takes it, whatever its path says."""
DATA = "/data"
"""The volume: ``ns/`` is the namespace of XRootD, ``control/`` belongs to the agent and the supervisor."""
PROBE = "/probe/control"
"""An empty file of XRootD's namespace that the operator alone may write: that it can shows that writes are taken."""
RUN = "/run/xrootd"
"""Memory of the XRootD container: admin path, private copy of the key, cache of issuers' keys."""
CONFIG = "/etc/volatile-rse/config"
"""The ConfigMap made by ``builders/xrootd.py``."""
TLS = "/etc/volatile-rse/tls"
"""``tls.crt``, ``tls.key``, ``ca.crt``: of the server in the XRootD container, of the agent in the agent's."""

WARNING = 1024
"""Characters of a warning of a status file."""
PATH_LENGTH = 1024
"""Characters of a session's path, as it is told: of a longer one its begin and a digest."""

LONGEST_PAGE = 10_000
"""Items."""

Adler32 = Annotated[str, Field(pattern=r"^[0-9a-f]{8}$")]
Md5 = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Count = Annotated[int, Field(ge=0, le=LARGEST)]
Name = Annotated[str, Field(min_length=1, max_length=500)]
"""As long as the schema of CMS allows; Rucio's generic one has 250."""
ClaimUid = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{0,63}$")]
DavsUrl = Annotated[str, Field(pattern=r"^(davs|https)://[^/]+/.+$", max_length=2048)]
Folder = Annotated[str, Field(pattern=FOLDER, max_length=FOLDER_LENGTH)]
StorePath = Annotated[str, Field(pattern=r"^/store/[^\x00]+$", max_length=1024)]
"""A path of the buffer's namespace as XRootD shows it."""


STATUS_FOLDER = "/store/.session"
"""Below it each session has a folder of its own, with its status file: no input may lie there."""


def status_path(claim: str) -> str:
    """Give the path of the status file of a session, as XRootD shows it."""
    return f"{STATUS_FOLDER}/{claim}/status.json"


def _stays_below(path: str) -> str:
    if fault := fault_of_path(path.removeprefix("/store/")):
        message = f"{path!r} is not a normal path below /store: it {fault}"
        raise ValueError(message)
    return path


class Located(Protocol):
    """A file on the buffer."""

    @property
    def path(self) -> str:
        """As XRootD shows it."""

    @property
    def bytes(self) -> int:
        """Its size."""

    @property
    def adler32(self) -> str | None:
        """Its checksum; None or empty: the catalogue has another one only."""

    @property
    def md5(self) -> str | None:
        """That one."""


class InputFile(ApiModel):
    """One file of the frozen list."""

    scope: Scope
    name: Name
    entries: Annotated[list[DnsLabel], Field(min_length=1, max_length=32)]
    """Names of the inputs that this file belongs to."""
    path: StorePath
    bytes: Count
    adler32: Adler32 | None = None
    """What it is compared with; absent: ``md5`` is there, which only an agent whose report knows ``md5`` takes."""
    md5: Md5 | None = None
    """The same, where the catalogue has nothing else."""
    sources: Annotated[list[DavsUrl], Field(max_length=64)] = []
    """Tried in this order. None: it fails for that reason; only an agent whose report knows ``sourceless`` takes it."""
    barred: Words | None = None
    """Why it has none, for people; only an agent whose report knows ``barred`` takes it."""

    _path = field_validator("path")(_stays_below)

    @model_validator(mode="after")
    def _one_checksum(self) -> Self:
        if (self.adler32 is None) == (self.md5 is None):
            message = f"{self.scope}:{self.name} has to have one checksum, adler32 or md5"
            raise ValueError(message)
        return self


class Listing(ApiModel):
    """The list of inputs that the session reads on the buffer, a line of JSON a file."""

    path: StorePath
    root: Annotated[str, Field(pattern=r"^root://[^/]+$", max_length=300)]
    """Before a path, in the URLs of the list."""

    _path = field_validator("path")(_stays_below)


def listed(root: str, did: str, entries: Sequence[str], file: Located) -> str:
    """Write one line of the list."""
    what = {
        "did": did, "inputs": list(entries), "url": f"{root}/{file.path}", "bytes": file.bytes,
        **({"adler32": file.adler32} if file.adler32 else {"md5": file.md5}),
    }  # fmt: skip
    return f"{json.dumps(what)}\n"


class OutputRule(ApiModel):
    """Which files of a claim an output takes, and what they are called."""

    claim: ClaimUid
    name: DnsLabel
    patterns: Annotated[list[RelativePattern], Field(min_length=1, max_length=32)]
    """Globs below the claim's outbox (``patterns``)."""
    scope: Scope
    dataset: Name
    template: Annotated[str, Field(max_length=100)] | None = None
    """Of the files' names (``names.file_name``); absent: ``<dataset>.<record>.<path>``."""
    layout: Literal["identity"] | None = None
    """How the RSE computes a file's path from its name; absent: ``hash``."""

    def named(self, record_id: str, path: bytes) -> tuple[str, str]:
        """Give the name of a file that this output takes, and its path on the buffer."""
        name = file_name(self.template, record_id, (self.scope, self.dataset), self.name, path)
        return name, f"/store/{rse_path(self.layout or 'hash', self.scope, name)}"


def rule_of(claim: str, path: str, rules: Iterable[OutputRule]) -> OutputRule | None:
    """Give the output that takes a file: the first that means it, else the first that matches a directory above it."""
    below: OutputRule | None = None
    for rule in rules:
        reach = max((reach_of(pattern, path) for pattern in rule.patterns if rule.claim == claim), default=Reach.NO)
        if reach is Reach.WHOLE:
            return rule
        below = rule if below is None and reach is Reach.BELOW else below
    return below


class SiteTokens(ApiModel):
    """What opens one site, as far as this buffer needs it."""

    read: SecretStr | None = None
    """Shown where a file is read or asked about; absent: that is asked without a token."""
    write: SecretStr | None = None
    """Shown where a file is written or removed; absent: as above."""
    paths: Annotated[list[Folder], Field(max_length=FOLDERS)] | None = None
    """Folders that the tokens are for: nothing else of the site is asked with them. Absent: all."""
    plain_redirects: bool = False
    """What the site redirects to plain http is read there, without a token. Only for an agent whose report knows
    ``plainRedirects``."""


class Manifest(ApiModel):
    """All that the agent works with; sent anew whenever a report says that the agent has none, or another."""

    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Chosen by the sender over everything in it, credentials included; reports repeat it."""
    claims: Annotated[list[ClaimUid], Field(max_length=64)]
    inputs: list[InputFile] = []
    credentials: dict[Annotated[str, Field(max_length=253)], SiteTokens] = {}
    """Host name -> its bearer tokens. No other host is asked, but where one of these leads there; then it is shown no
    token. Kept in memory only."""
    trust: Annotated[str, Field(max_length=1_000_000)] | None = None
    """Certificates of the authorities that sites are trusted by (PEM); absent: the system's."""
    outputs: Annotated[list[OutputRule], Field(max_length=2048)] = []
    """What the files of the outboxes are told by while sessions write; only for an agent whose report knows it."""
    continuous: Annotated[list[DnsLabel], Field(max_length=32)] = []
    """Outputs of which a file that is renamed into ``/publish/<claim>/`` is sealed at once; as above."""
    record_id: Annotated[str, Field(pattern=r"^[a-z2-7]{10}$")] | None = None
    """For the names of what is sealed before the end; comes with ``continuous``."""
    listing: Listing | None = None
    """Only for an agent whose report knows ``listing``."""

    @model_validator(mode="after")
    def _one_name_one_path(self) -> Self:
        if len({file.path for file in self.inputs}) != len(self.inputs):
            message = "two inputs have the same path"
            raise ValueError(message)
        if len({(file.scope, file.name) for file in self.inputs}) != len(self.inputs):
            message = "two inputs have the same scope and name"
            raise ValueError(message)
        return self


class GateState(ApiModel):
    """Whether sessions may write."""

    mode: Literal["open", "fenced", "down"]
    """``down`` is never desired: XRootD is not listening."""
    generation: Count
    """Of the fence; 0 before any."""


class FenceRequest(ApiModel):
    """Close the outboxes for good."""

    generation: Annotated[int, Field(ge=1)]


class SealRequest(ApiModel):
    """Take inventory of a fenced buffer and seal what the outputs name; the first matching rule takes a file."""

    generation: Annotated[int, Field(ge=1)]
    """Of the fence in force."""
    record_id: Annotated[str, Field(pattern=r"^[a-z2-7]{10}$")]
    outputs: Annotated[list[OutputRule], Field(max_length=2048)]


class SealState(ApiModel):
    """How far sealing is."""

    generation: Annotated[Count, Field(ge=1)]
    state: Literal["running", "done", "failed"]
    error: Words | None = None
    idle: Count | None = None
    """Seconds since something was found, read or sealed, while it runs; absent: an agent that does not tell."""


class CopyTarget(ApiModel):
    """Where one copy goes."""

    rse: Annotated[str, Field(max_length=64)]
    pfn: DavsUrl


class CopyOrder(ApiModel):
    """The copies of one sealed output."""

    scope: Scope
    name: Name
    destinations: Annotated[list[CopyTarget], Field(min_length=1, max_length=8)]


class Copies(ApiModel):
    """Copies to make; repeating an order is harmless, and gives failed copies new attempts."""

    copies: Annotated[list[CopyOrder], Field(max_length=10_000)]


class ToldOutput(ApiModel):
    """What Rucio has of one output."""

    name: DnsLabel
    registered: Count = 0
    """Files that Rucio knows on the buffer."""
    safe: Count = 0
    """Files that are verified and held at their destination."""


class Warned(ApiModel):
    """Something that somebody must act upon."""

    reason: Annotated[str, Field(max_length=64)]
    message: Annotated[str, Field(max_length=WARNING)]
    """What happened, who must act, and what to do."""


class SessionWords(ApiModel):
    """What the agent does not know itself of what a session is told by its status file."""

    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Chosen by the sender over all of it; reports repeat it."""
    claim: ClaimUid
    rse: Annotated[str, Field(max_length=64)]
    usable: bool = False
    """The session can read its inputs through its endpoint."""
    expires: Annotated[str, Field(max_length=32)] | None = None
    """When the session ends at the latest."""
    ended_at: Annotated[str, Field(max_length=32)] | None = None
    """When it ended."""
    inputs: Annotated[list[DnsLabel], Field(max_length=64)] = []
    """Those that are told of."""
    outputs: Annotated[list[ToldOutput], Field(max_length=64)] = []
    warnings: Annotated[list[Warned], Field(max_length=16)] = []


class InputState(ApiModel):
    """State of one input."""

    version: Count
    scope: Scope
    name: Name
    path: StorePath
    bytes: Count
    adler32: Adler32 | None = None
    """As the catalogue has it; of a file with ``md5``, what it was found to have when it arrived."""
    md5: Md5 | None = None
    """What it was compared with, where the catalogue has nothing else."""
    state: Literal["wanted", "staged", "failed"]
    error: Words | None = None


class OutputState(ApiModel):
    """State of one file that a session left."""

    version: Count
    claim: ClaimUid
    path: Annotated[str, Field(max_length=PATH_LENGTH)]
    """Below the claim's outbox, as people may read it: what is not printed is shown as ``\\xNN``."""
    state: Literal["found", "sealed", "torn", "unmatched", "excluded", "skipped", "failed"]
    """``torn``: the upload never ended; ``unmatched``: no output names it; ``excluded``: one of ``EXCLUDES``;
    ``skipped``: no regular file. All of these stay where they are. ``failed``: another attempt may succeed."""
    bytes: Count
    output: DnsLabel | None = None
    scope: Scope | None = None
    name: Name | None = None
    store_path: StorePath | None = None
    adler32: Adler32 | None = None
    error: Words | None = None


class CopyState(ApiModel):
    """State of one copy."""

    version: Count
    scope: Scope
    name: Name
    rse: Annotated[str, Field(max_length=64)]
    pfn: Annotated[str, Field(max_length=2048)]
    state: Literal["wanted", "verified", "failed"]
    attempts: Count
    error: Words | None = None
    """Of the last attempt, also while more will follow."""


class InputPage(ApiModel):
    """Inputs that changed after a version, oldest change first."""

    items: Annotated[list[InputState], Field(max_length=LONGEST_PAGE)]
    next: Count | None = None
    """Give it as ``after`` to read on; absent: this was the last page."""


class OutputPage(ApiModel):
    """Outputs that changed after a version, oldest change first."""

    items: Annotated[list[OutputState], Field(max_length=LONGEST_PAGE)]
    next: Count | None = None


class CopyPage(ApiModel):
    """Copies that changed after a version, oldest change first."""

    items: Annotated[list[CopyState], Field(max_length=LONGEST_PAGE)]
    next: Count | None = None


class InputTotals(ApiModel):
    """Progress of one input entry."""

    name: DnsLabel
    files: Count = 0
    staged: Count = 0
    failed: Count = 0
    bytes: Count = 0
    staged_bytes: Count = 0
    idle: Count | None = None
    """Seconds since something of it arrived, or since it was asked for; absent: an agent that does not tell."""


class OutputTotals(ApiModel):
    """What a claim's output has; ``name`` is absent for files that no output names."""

    claim: ClaimUid
    name: DnsLabel | None = None
    files: Count = 0
    open: Count = 0
    """Files that are being written, of a buffer that is not fenced."""
    sealed: Count = 0
    torn: Count = 0
    failed: Count = 0
    bytes: Count = 0


class LeaseTotals(ApiModel):
    """What holds a claim from outside the cluster: small files of ``/lease/<claim>/``."""

    claim: ClaimUid
    held: Count = 0
    """Leases whose time is not over."""
    until: Count | None = None
    """When the last of them is over, in seconds of Unix time, by the clock where the agent runs; absent: none holds."""
    taken: bool = False
    """One was taken since there is the buffer, whatever became of it."""
    odd: Annotated[list[Annotated[str, Field(max_length=300)]], Field(max_length=5)] = []
    """What is there and is no lease, or does not say its time, each with what is wrong with it; some of many."""


class CopyTotals(ApiModel):
    """Progress of all copies."""

    files: Count = 0
    verified: Count = 0
    failed: Count = 0
    bytes: Count = 0
    verified_bytes: Count = 0


class Failure(ApiModel):
    """One of the first failures: what, and why."""

    what: Annotated[str, Field(max_length=2048)]
    error: Words


class Space(ApiModel):
    """Of the volume."""

    bytes: Count
    bytes_free: Count
    inodes: Count
    inodes_free: Count


class Report(ApiModel):
    """The buffer now."""

    api: Literal["v1"] = "v1"
    version: Count
    """Of the ledger. It starts anew when the ledger is lost: wait for another one, not for a greater one."""
    volume: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    """Made with the volume: another one means that the storage was lost and begun anew."""
    manifest: Annotated[str, Field(max_length=64)] | None = None
    """Digest of the manifest in force; absent: this agent has none yet, or has restarted."""
    clock: Count | None = None
    """Unix time where it runs, in whole seconds; absent: an agent that does not tell."""
    sites: list[Annotated[str, Field(max_length=253)]] = []
    """Hosts that the manifest in force has ``credentials`` for."""
    desired: GateState
    actual: GateState
    inputs: Annotated[list[InputTotals], Field(max_length=64)]
    seal: SealState | None = None
    outputs: Annotated[list[OutputTotals], Field(max_length=8192)]
    copies: CopyTotals
    failures: Annotated[list[Failure], Field(max_length=60)]
    """The first files of each kind that failed; after them what keeps the agent from its work, until it is over."""
    space: Space
    staging_rate: Count | None = None
    """Bytes of inputs in a second, of late; absent: an agent that does not tell."""
    unmatched: Annotated[list[Annotated[str, Field(max_length=2048)]], Field(max_length=20)] = []
    """Some of the files that no output names, as outputs show their paths."""
    knows: Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=32)] = []
    """Parts of the protocol that came later: an agent refuses what it does not know."""
    xrootd_restarts: Count = 0
    """How often XRootD was ended on this volume because it answered nobody."""
    partial_files: Count = 0
    """Inputs of which a part has arrived: what is to come of them needs no inode more."""
    partial_bytes: Count = 0
    """What has arrived of them: it takes space, and is not asked for again."""
    lacks: Annotated[list[Annotated[str, Field(max_length=200)]], Field(max_length=20)] = []
    """What a buffer needs of its volume's file system, and this one cannot, each with the error."""
    leases: Annotated[list[LeaseTotals], Field(max_length=64)] | None = None
    """Of each claim of the manifest in force. They count by themselves, not in ``version``. Absent: they cannot be read
    now, or it is an agent that knows none."""
    told: Annotated[str, Field(max_length=64)] | None = None
    """Digest of the last ``SessionWords``; absent: this agent was told none, or has restarted. Only an agent whose
    report knows ``status`` takes them."""
