"""VolatileRSEClass: what a site's admin offers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from volatile_rse.api.conditions import Condition
from volatile_rse.api.schema import (
    LABEL_KEY,
    LABEL_VALUE,
    Account,
    ApiModel,
    Cpu,
    DnsLabel,
    Durability,
    Duration,
    NamespacePattern,
    Quantity,
    Scope,
    ScopePattern,
    cel,
)

__all__ = [
    "ATTRIBUTE_KEY",
    "SITE_TOKENS",
    "Amounts",
    "ContainerResources",
    "Exposure",
    "Grant",
    "LabelRequirement",
    "Limits",
    "Memory",
    "NamespaceLimits",
    "NamespaceSelector",
    "Naming",
    "OwnerLimits",
    "Pods",
    "Quarantine",
    "Resources",
    "Site",
    "SiteCredentials",
    "Storage",
    "Tenancy",
    "Toleration",
    "VolatileRSEClassSpec",
    "VolatileRSEClassStatus",
    "Volume",
]

ATTRIBUTE_KEY = r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,254}$"
"""What Rucio's RSE expressions take, and what its client can write into a URL as it is."""

_DNS_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"


SITE_TOKENS = "volatilerse.io/site-tokens"
"""Type of the Secrets whose values are for sites."""


class Volume(ApiModel):
    """A PersistentVolumeClaim."""

    storage_class_name: Annotated[str, Field(max_length=253)] | None = None
    """Absent: the cluster's default StorageClass."""


class Memory(ApiModel):
    """A memory volume: fast, and gone with the pod."""


class Storage(ApiModel):
    """The medium of the buffer; exactly one."""

    volume: Volume | None = None
    memory: Memory | None = None

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                cel("has(self.volume) != has(self.memory)", "choose exactly one of volume and memory")
            ]
        }
    )


class Exposure(ApiModel):
    """How the buffer is reached from outside the cluster, where Rucio's daemons are."""

    method: Literal["NodePort"] = "NodePort"
    """A NodePort of the cluster for each protocol."""
    public_host: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]
    """Name of a node, or of what forwards to one, on the catalogue's side."""


class Amounts(ApiModel):
    """Processor time and memory."""

    cpu: Cpu | None = None
    """Absent: not said."""
    memory: Quantity | None = None
    """Absent: not said."""


class ContainerResources(ApiModel):
    """What one container needs; the pages of a memory volume come on top of it, by themselves."""

    requests: Amounts = Amounts(cpu="20m", memory="128Mi")
    """What the scheduler sets aside."""
    limits: Amounts = Amounts(memory="1Gi")
    """What it gets at most. A container without a memory limit may take the whole node."""


class Resources(ApiModel):
    """Of the two containers of a storage pod."""

    xrootd: ContainerResources = ContainerResources()
    """The server; its memory grows with the number of open connections."""
    agent: ContainerResources = ContainerResources()
    """What stages and copies; its memory grows with the number of input files, about 3 KiB for each."""


class Toleration(ApiModel):
    """A taint that storage pods tolerate, as Kubernetes writes it."""

    key: Annotated[str, Field(pattern=LABEL_KEY, max_length=317)] | None = None
    """Of the taint; absent with `Exists`: every taint."""
    operator: Literal["Exists", "Equal"] = "Equal"
    """Whether the value matters."""
    value: Annotated[str, Field(pattern=LABEL_VALUE, max_length=63)] | None = None
    """Of the taint."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Absent: every effect."""
    toleration_seconds: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    """How long `NoExecute` is tolerated; absent: for ever."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                cel("self.operator != 'Exists' || !has(self.value)", "a toleration with operator Exists has no value"),
                cel("has(self.key) || self.operator == 'Exists'", "a toleration without a key needs operator Exists"),
                cel(
                    "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
                    "tolerationSeconds is for effect NoExecute alone",
                ),
            ]
        }
    )


class Pods(ApiModel):
    """Where storage pods run, and what they may take there; the empty server of a public host is placed likewise."""

    resources: Resources = Resources()
    """Of a pod's containers."""
    node_selector: Annotated[
        dict[
            Annotated[str, Field(min_length=1, max_length=317)],
            Annotated[str, Field(max_length=63, pattern=LABEL_VALUE)],
        ],
        Field(max_length=16),
    ] = {}
    """Labels of the nodes that take storage pods."""
    tolerations: Annotated[list[Toleration], Field(max_length=16)] = []
    """Taints of nodes that take them all the same."""
    affinity: Annotated[
        dict[str, Any] | None,
        Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True}),
    ] = None
    """As in a pod's spec; the API server checks it when it makes the first pod of the class."""
    priority_class_name: Annotated[str, Field(pattern=_DNS_SUBDOMAIN, max_length=253)] | None = None
    """Of the pods: what has the outputs of a session should not be the first to be evicted."""
    image_pull_secrets: Annotated[
        list[Annotated[str, Field(pattern=_DNS_SUBDOMAIN, max_length=253)]], Field(max_length=8)
    ] = []
    """Secrets of the buffers' namespace by which nodes pull the image."""


class SiteCredentials(ApiModel):
    """The service identity by which buffers read and write the permanent sites."""

    secret_name: DnsLabel
    """Secret in the operator's namespace, of type ``volatilerse.io/site-tokens``, else nothing of it is read. Keys:
    ``HOST``, a bearer token for that host alone; ``HOST_read`` and ``HOST_write`` where there is one for each;
    ``HOST_paths``, the folders that they are for, with blanks between, each with its port in front (``:1094/cms``) if
    it is that port's alone."""
    ca_config_map: DnsLabel | None = None
    """ConfigMap in the operator's namespace whose key ``ca.crt`` verifies the sites; absent: the system's bundle."""


class Site(ApiModel):
    """What is particular to one permanent site."""

    host: Annotated[str, Field(pattern=_DNS_SUBDOMAIN, max_length=253)]
    """Of its door, as Rucio's protocols name it."""
    anonymous: bool = False
    """Whether it gives files to everybody: they are read from it without a token, also where the Secret has one for
    that. A token to write is shown all the same, and what was written with it is looked at with it."""
    plain_redirects: bool = False
    """Whether files are read from it that its door redirects to plain http, as many dCache pools give them. Whoever is
    on the way reads them, too, and who is able to may change them: the checksum of the catalogue, which is compared,
    shows accidents, not forgery. No token is shown there, and nothing is ever written there."""


class LabelRequirement(ApiModel):
    """What a label has to be, as Kubernetes writes it."""

    # Forms are said to the API server alone: a wrong one concerns the grant that has it, and no other.
    key: Annotated[str, Field(max_length=317, json_schema_extra={"pattern": LABEL_KEY})]
    """Of the label."""
    operator: Annotated[
        str, Field(max_length=16, json_schema_extra={"enum": ["In", "NotIn", "Exists", "DoesNotExist"]})
    ]
    """`NotIn` takes namespaces without the label, too."""
    values: Annotated[
        list[Annotated[str, Field(max_length=63, json_schema_extra={"pattern": LABEL_VALUE})]], Field(max_length=64)
    ] = []
    """For `In` and `NotIn` alone."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                cel(
                    "(self.operator in ['In', 'NotIn']) == (has(self.values) && self.values.size() > 0)",
                    "operators In and NotIn need values, Exists and DoesNotExist have none",
                )
            ]
        }
    )


class NamespaceSelector(ApiModel):
    """Namespaces by their labels, as Kubernetes selects them: all of it has to hold, and nothing means every one."""

    match_labels: Annotated[
        dict[
            Annotated[str, Field(max_length=317)],
            Annotated[str, Field(max_length=63, json_schema_extra={"pattern": LABEL_VALUE})],
        ],
        Field(max_length=16),
    ] = {}
    """Labels that a namespace has."""
    match_expressions: Annotated[list[LabelRequirement], Field(max_length=16)] = []
    """What else its labels have to be."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                cel(
                    "!has(self.matchLabels) || self.matchLabels.all(key, "
                    f"key.matches(r'{LABEL_KEY}') && key.split('/')[0].size() <= 253)",
                    "a key of matchLabels is no key of a label",
                )
            ]
        }
    )


class Grant(ApiModel):
    """What some namespaces may use; one for which namespaces and namespaceSelector both hold, where it has both."""

    namespaces: Annotated[list[NamespacePattern], Field(min_length=1, max_length=128)] | None = None
    """Of VolatileRSEs: names, or patterns in which each `*` stands for any characters, also for none (`jupyter-*`; `*`
    alone: every namespace). Use patterns only where tenants cannot name namespaces."""
    namespace_selector: NamespaceSelector | None = None
    """Namespaces by their labels. Use it only where tenants cannot label namespaces."""
    uid: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """Of the one namespace that is named: one that is made again under its name has another UID, and no grant."""
    on_behalf_of: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=253)]] | None, Field(min_length=1, max_length=512)
    ] = None
    """Only for VolatileRSEs that a service there, such as a JupyterHub, has made for one of these users
    (`spec.onBehalfOf`): names, or patterns in which each `*` stands for any characters (`*@cern.ch`). Absent: for
    all."""
    accounts: Annotated[list[Account], Field(min_length=1, max_length=64)]
    """Rucio accounts for which these namespaces may act."""
    scopes: Annotated[list[Scope], Field(max_length=512)] = []
    """Scopes that these namespaces may read from and write to."""
    read_scopes: Annotated[list[ScopePattern], Field(max_length=512)] = []
    """Scopes that these namespaces may read from only; one that ends with `*` stands for all that begin so. The scope
    of every file counts, whatever dataset or container it was attached to."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                cel(
                    "has(self.namespaces) || has(self.namespaceSelector)",
                    "a grant has namespaces, or a namespaceSelector, or both",
                ),
                cel(
                    "!has(self.uid) || (has(self.namespaces) && self.namespaces.size() == 1"
                    " && !self.namespaces[0].contains('*'))",
                    "uid is for one namespace that namespaces has by its exact name",
                ),
            ]
        }
    )


class Tenancy(ApiModel):
    """Who may use this class, and as whom."""

    grants: Annotated[list[Grant], Field(max_length=128)] = []
    """An account and a scope must be in the same grant."""


class Quarantine(ApiModel):
    """How much may wait to become safe after its teardown.deadline, over all buffers of the class."""

    max_bytes: Quantity | None = None
    """Absent: any amount."""
    max_age: Duration | None = None
    """Of the oldest, counted from its session's end; absent: any."""
    on_exceed: Literal["BlockNewSessions"] = "BlockNewSessions"
    """What to do when one of them is exceeded; nothing is ever destroyed."""


class Naming(ApiModel):
    """What the buffers, their files and ledgers are called in Rucio; buffers that exist keep their names."""

    preset: Literal["generic", "cms"] = "generic"
    """Whose schema the names obey. `generic`: RSE `VRSE-{RECORD}`, ledger `vrse-{record}.ledger`, files
    `<dataset>.<record>.<path>`. `cms`: the patterns of the policy package of CMS; files are
    `/store/{kind}/rucio/{owner}/{record}/{output}/{path}`, ledger `/vrse/{account}-{record}/USER#{record}`, RSE
    `T3_XX_VRSE_{RECORD}`; outputs need scopes `user.…` or `group.…` and datasets `/a/b/TIER#block`."""
    rse: Annotated[str, Field(max_length=40)] | None = None
    """Template of the RSE's name instead of the preset's, with `{record}` or `{RECORD}` (upper case)."""
    file: Annotated[str, Field(max_length=100)] | None = None
    """Template of the files' names instead of the preset's: parts between slashes, of which each placeholder is one;
    `{record}`, `{output}` and, as the last, `{path}`; before them `{kind}` and `{owner}` (of scope `kind.owner`)."""
    ledger: Annotated[str, Field(max_length=150)] | None = None
    """Template of the ledger's name, in the connection's ledgerScope, with `{record}`; it may have `{account}`."""


class NamespaceLimits(ApiModel):
    """How much the buffers of one namespace may take together, as long as they are not closed."""

    buffers: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Absent: any number."""
    bytes: Quantity | None = None
    """Sum of their capacities; absent: any."""
    quarantined_bytes: Quantity | None = None
    """What may be in quarantine when another session begins; absent: any amount."""


class OwnerLimits(ApiModel):
    """How much one owner, an account in a namespace, may take of this class; as long as buffers are not closed."""

    buffers: Annotated[int, Field(ge=1, le=1_000_000)] = 20
    """At a time."""
    bytes: Quantity = "4Ti"
    """Sum of their capacities."""
    files: Annotated[int, Field(ge=1, le=100_000_000)] = 500_000
    """Input files of them all, and output files that are not safe yet; a file counts for each buffer."""
    new_per_hour: Annotated[int, Field(ge=1, le=1_000_000)] = 120
    """Buffers that begin within an hour, closed ones too: each leaves a name in Rucio that is never given again."""
    closed_records: Annotated[int, Field(ge=1, le=1_000_000)] = 200
    """RSERecords of closed buffers: of more the oldest go before recordRetention, those that tell of no loss first. As
    many VolatileRSEs may stay whose sessions are over."""


class Limits(ApiModel):
    """What tenants may take of this class; who would take more waits."""

    per_owner: OwnerLimits = OwnerLimits()
    """For each account in each namespace by itself."""
    per_namespace: NamespaceLimits = NamespaceLimits()
    """For each namespace by itself, all its accounts together."""


class VolatileRSEClassSpec(ApiModel):
    """What buffers of this class are made of."""

    connection_name: DnsLabel
    """RucioConnection."""
    storage: Storage
    durability: Durability | None = None
    """What the storage outlives, as its admin knows it; absent: Pod for memory, else Node."""
    exposure: Exposure
    pods: Pods = Pods()
    """Placement and resources of the storage pods."""
    site_credentials: SiteCredentials
    sites: Annotated[
        list[Site],
        Field(
            max_length=256, json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["host"]}
        ),
    ] = []
    """Permanent sites that are not as others are."""
    tenancy: Tenancy = Tenancy()
    max_capacity: Quantity | None = None
    """Largest capacity that a VolatileRSE may ask for."""
    max_ttl: Duration = "30d"
    """How long a session may live from first Ready, by its ``ttl`` and by ``extendUntil``. Its token lives as long, and
    an hour more: what ends its rights is the session's end, whatever the token says."""
    near_rse: Annotated[Annotated[str, Field(min_length=1, max_length=64)] | None, Field(alias="nearRSE")] = None
    """Permanent RSE beside which the buffers stand: inputs come from the RSEs nearest to it by Rucio's distances."""
    non_deterministic_sources: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=64)]], Field(max_length=64)
    ] = []
    """Permanent RSEs that are not deterministic and from which inputs come, too. Who registers a replica there says by
    himself where it is: name only RSEs where nobody registers but those who may read all of the site."""
    max_registered_replicas: Annotated[int, Field(ge=0, le=10_000_000)] = 100_000
    """Inputs of one buffer that are registered in Rucio; more are staged all the same, and the status says so."""
    quarantine: Quarantine = Quarantine()
    limits: Limits = Limits()
    record_retention: Duration = "30d"
    """How long a closed RSERecord is kept."""
    naming: Naming = Naming()
    rse_attributes: Annotated[
        dict[str, Annotated[str, Field(max_length=255)]],
        Field(max_length=16),
    ] = {}
    """Attributes set on every RSE of this class, besides the operator's own ``vrse_*`` and ``lfn2pfn_algorithm``.
    Values are texts, also ``"false"`` and ``"3"``: Rucio itself makes truth values of ``true`` and ``false``."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                cel(
                    "!has(self.storage.memory) || !has(self.durability) || self.durability == 'Pod'",
                    "memory outlives no pod: its durability is Pod",
                ),
                cel(
                    "!has(self.rseAttributes) || self.rseAttributes.all(key, "
                    "!key.startsWith('vrse_') && !(key in ['lfn2pfn_algorithm', 'ISP']))",
                    "vrse_*, lfn2pfn_algorithm and ISP say whose an RSE is and where its files are",
                ),
                cel(
                    "!has(self.rseAttributes) || self.rseAttributes.all(key, "
                    f"key.matches(r'{ATTRIBUTE_KEY}') && !self.rseAttributes[key].matches(r'[\\x00-\\x1f\\x7f]'))",
                    "a key of rseAttributes is letters, digits, '_', '.' and '-' (255 at most, the first one no '.' or "
                    "'-'), as in RSE expressions; no value has a control character",
                ),
            ]
        }
    )

    def outlives(self) -> Durability:
        """Tell what the storage outlives."""
        return self.durability or ("Node" if self.storage.memory is None else "Pod")

    @classmethod
    def example(cls) -> dict[str, Any]:
        """Give a complete class as an admin would write it."""
        return {
            "connectionName": "rucio",
            "storage": {"volume": {}},
            "exposure": {"publicHost": "buffers.example.org"},
            "siteCredentials": {"secretName": "site-tokens"},
            "tenancy": {"grants": [{"namespaces": ["alice"], "accounts": ["alice"], "scopes": ["user.alice"]}]},
        }


class VolatileRSEClassStatus(ApiModel):
    """What the operator found when it tried what the class offers; no session waits for it."""

    observed_generation: int = -1
    """Generation of the spec that this status speaks of."""
    conditions: Annotated[list[Condition], Field(max_length=16)] | None = None
    """``Ready`` and what it is made of."""
