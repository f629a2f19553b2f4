"""A catalogue in memory that keeps Rucio's rules as far as the operator relies on them.

What Rucio's daemons do happens only in ``run_daemons``, so that a test sees the states between.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from volatile_rse.adapters.rucio.answers import checksum_of, input_of, size_of
from volatile_rse.adapters.rucio.doors import Door, looking, ordered, why_no_door, writing
from volatile_rse.api.conditions import Reason
from volatile_rse.api.names import hash_path, identity_path
from volatile_rse.domain.catalogue import (
    ATTRIBUTE_LENGTH,
    Barred,
    BufferRse,
    DatasetState,
    Did,
    File,
    ForeignRule,
    LedgerOwner,
    Room,
    RseState,
    RuleState,
    Standing,
    Term,
    attribute_text,
    lasts,
)
from volatile_rse.ports.catalogue import Catalogue
from volatile_rse.ports.errors import PortError, RefusedError, UnreachableError

__all__ = ["FakeCatalogue"]

_MARK = "vrse_instance"
_TABLES = (
    "_files",
    "_collections",
    "_rses",
    "_deleted",
    "_replicas",
    "_tombs",
    "_bad",
    "_lost",
    "_rules",
    "_paths",
    "_archives",
)


@dataclass(frozen=True, slots=True)
class _Door:
    scheme: str
    host: str
    port: int
    third_party: int | None
    """Priority for copies that Rucio orders."""


@dataclass(slots=True)
class _Rse:
    host: str
    attributes: dict[str, str | bool]
    """As Rucio answers: truth values where ``true`` or ``false`` was written."""
    owner: str | None = None
    """Given in the call that creates a buffer's RSE; a permanent one has none."""
    doors: list[_Door] = field(default_factory=list)
    """Of a buffer's RSE."""
    readable: bool = True
    writable: bool = True
    deterministic: bool = True
    """Paths are computed; else whoever registers a replica says where it is."""
    deletable: bool = True
    forgets: bool = False
    """Rucio's own column ``volatile``."""
    staging_area: bool = False
    tape: bool = False
    davs: tuple[tuple[str, int | None, int | None], ...] | None = None
    """Host, priority to read and to write from outside of each davs protocol of a permanent RSE; None: one, its own."""
    computable: bool = True
    """The server has its algorithm of paths."""
    space: int | None = None
    """Its limit MaxSpaceAvailable."""
    counted: int = 0
    """Bytes by the counter, which follows only with the daemons."""

    @property
    def volatile(self) -> bool:
        """Tell buffers, half-made ones too, from permanent RSEs."""
        return self.owner is not None or _MARK in self.attributes

    def port(self, scheme: str) -> int:
        """Give the port of a door; 0 where there is none."""
        return next((door.port for door in self.doors if door.scheme == scheme), 0)

    @property
    def stages(self) -> bool:
        """Tell whether a file that is there need not be on disk."""
        return self.tape or bool(self.attributes.get("staging_required"))

    @property
    def site(self) -> Mapping[str, Any]:
        """Give the davs protocols of a permanent RSE as Rucio tells them."""
        davs = ((self.host, 1, 1),) if self.davs is None else self.davs
        doors = [
            {"scheme": "davs", "hostname": host, "port": 8443, "domains": {"wan": {"read": read, "write": write}}}
            for host, read, write in davs
        ]
        return {"protocols": doors}

    @property
    def address(self) -> str:
        """Host of a buffer's davs door; empty where there is none."""
        return next((door.host for door in self.doors if door.scheme == "davs"), "")


@dataclass(slots=True)
class _Collection:
    account: str
    members: set[Did] = field(default_factory=set)
    open: bool = True
    container: bool = False
    owner: LedgerOwner | None = None
    maker: str | None = None
    expired: bool = False


@dataclass(slots=True)
class _Rule:
    did: Did
    account: str
    rses: tuple[str, ...]
    locks: set[tuple[Did, str]] = field(default_factory=set)
    ends: datetime | None = None
    ours: bool = False
    """An operator has made it."""


def _utcnow() -> datetime:
    return datetime.now(UTC)


class FakeCatalogue(Catalogue):
    """One Rucio server for one thread."""

    def __init__(self) -> None:
        self.down = False
        """The server does not answer while this is set."""
        self.now: Callable[[], datetime] = _utcnow
        self.journal: list[str] = []
        """Writes that were carried out."""
        self.quota: dict[tuple[str, str], int] = {}
        """(account, RSE) -> bytes; unlimited where nothing is said."""
        self.global_quota: dict[tuple[str, str], int] = {}
        """(account, RSE expression) -> bytes for all its RSEs together."""
        self.admins: set[str] = set()
        """Accounts with the attribute ``admin``: Rucio asks for no limit of theirs."""
        self.privileged = True
        """The operator's account has the attribute ``admin``."""
        self.scopes: set[str] | None = None
        """None: every one exists."""
        self.distances: dict[tuple[str, str], int] = {}
        """(From, to) -> distance."""
        self.judging = True
        """Rucio's judge-evaluator runs: rules see what comes to their datasets."""
        self.singly: list[str] = []
        """RSEs that were asked about one by one."""
        self.silent: set[str] = set()
        """RSEs at whose address nobody answers: the reaper can delete nothing there."""
        self._files: dict[Did, File] = {}
        self._collections: dict[Did, _Collection] = {}
        self._rses: dict[str, _Rse] = {}
        self._deleted: set[str] = set()
        self._replicas: dict[tuple[str, Did], str] = {}
        self._paths: dict[tuple[str, Did], str] = {}
        """Where replicas on RSEs that are not deterministic are said to be."""
        self._archives: dict[Did, Did] = {}
        """File -> archive that it is inside of."""
        self._tombs: set[tuple[str, Did]] = set()
        """Replicas with the epoch tombstone that a plain reaper takes."""
        self._bad: set[tuple[str, Did]] = set()
        """Replicas that were declared bad, and that the necromancer has not seen yet."""
        self._lost: set[Did] = set()
        """Files that had no other replica then: no dataset takes them any more."""
        self._rules: dict[str, _Rule] = {}
        self._locked: set[str] = set()
        """RSEs where hiding was refused because of a rule."""
        self._failures: list[tuple[PortError, bool]] = []
        self._death: tuple[int, BaseException] | None = None
        """Single writes until whoever calls is dead."""

    # What tests do.

    def add_permanent(self, rse: str, host: str, attributes: Mapping[str, str] | None = None) -> None:
        """Add a permanent RSE."""
        self._rses[rse] = _Rse(host, {key: _stored(value) for key, value in (attributes or {}).items()})

    def add_elsewhere(self, rse: str, host: str, dataset: Did, file: File, pfn: str) -> None:
        """Add a file to a dataset, on a new RSE that is not deterministic: anybody may say where it is."""
        self._rses[rse] = _Rse(host, {}, deterministic=False)
        self._put(dataset, rse, [file])
        self._paths[rse, file.did] = pfn

    def alter(self, rse: str, **columns: object) -> None:
        """Change what is told of a permanent RSE: ``readable``, ``tape``, ``davs`` and the like."""
        self._rses[rse] = replace(self._rses[rse], **columns)  # type: ignore[arg-type]

    def add_files(self, dataset: Did, rse: str, files: Iterable[File]) -> None:
        """Put files of a dataset, which is made if it is absent, on an RSE: of whatever size and checksum."""
        self._collections.setdefault(dataset, _Collection("root"))
        self._put(dataset, rse, list(files))

    def add_archive(self, dataset: Did, rse: str, archive: File, inside: Iterable[File]) -> None:
        """Add an archive to a dataset, and the files inside of it, which have no replicas of their own."""
        self._put(dataset, rse, [archive])
        for file in inside:
            self._files[file.did] = file
            self._archives[file.did] = archive.did
            self._collections[dataset].members.add(file.did)

    def add_half_made(self, rse: str, instance: str) -> None:
        """Add an RSE whose creator died after its first call."""
        self._rses[rse] = _Rse("", {}, instance, deletable=False)

    def attach_files(self, dataset: Did, files: Iterable[Did]) -> None:
        """Attach files that exist, of any scope and account, as the owner of the dataset may."""
        self._collections[dataset].members.update(files)

    def add_container(self, container: Did, members: Iterable[Did]) -> None:
        """Add a container of datasets or containers."""
        self._collections[container] = _Collection("root", set(members), container=True)

    def add_rule(self, did: Did, account: str, rses: Sequence[str], ends: datetime | None = None) -> str:
        """Make somebody's rule, even where nobody may; each file is locked on all of the RSEs that have it."""
        locks = {(file, rse) for file in self._members(did) for rse in rses if (rse, file) in self._replicas}
        return self._add(_Rule(did, account, tuple(rses), locks, ends))

    def close(self, dataset: Did) -> None:
        """Close a dataset."""
        self._collections[dataset].open = False

    def detach(self, dataset: Did, file: Did) -> None:
        """Take a file out of a dataset."""
        self._collections[dataset].members.remove(file)

    def open(self, dataset: Did) -> None:
        """Open a dataset again."""
        self._collections[dataset].open = True

    def lose(self, rse: str, did: Did) -> None:
        """Let a replica vanish from an RSE."""
        self._replicas.pop((rse, did))

    def declare_bad(self, rse: str, did: Did) -> None:
        """Declare a replica bad, as only root may."""
        self._replicas[rse, did] = "B"
        self._bad.add((rse, did))

    def backup(self) -> Mapping[str, object]:
        """Keep the database as it is now."""
        return {name: copy.deepcopy(getattr(self, name)) for name in _TABLES}

    def restore(self, backup: Mapping[str, object]) -> None:
        """Go back to an earlier database."""
        for name, table in backup.items():
            setattr(self, name, copy.deepcopy(table))

    def rules(self, did: Did) -> frozenset[str]:
        """Give the ids of a DID's rules."""
        return frozenset(id_ for id_, rule in self._rules.items() if rule.did == did)

    def end_of(self, rule: str) -> datetime | None:
        """Give the moment in which a rule ends; None: never."""
        return self._rules[rule].ends

    def has_rse(self, rse: str) -> bool:
        """Tell whether an RSE exists."""
        return rse in self._rses

    def fail_next(self, error: PortError | None = None, *, after: bool = False) -> None:
        """Let the next write fail; ``after``: it is carried out, only its answer is lost."""
        self._failures.append((error or _unreachable(), after))

    def die_after(self, writes: int, death: BaseException) -> None:
        """Let the caller die with one of its next single writes: the making of an RSE is several."""
        self._death = (writes, death)

    def prefer_root(self, rse: str) -> None:
        """Give a buffer's root protocol the priority 0, as operators of before did."""
        self._rses[rse].doors = [
            replace(door, third_party=int(door.scheme != "root")) for door in self._rses[rse].doors
        ]

    def lose_doors(self, rse: str) -> None:
        """Let somebody take the protocols of a buffer's RSE away."""
        self._rses[rse].doors.clear()

    def live_on(self) -> None:
        """Let the caller live after all."""
        self._death = None

    @property
    def awaits_death(self) -> bool:
        """Tell whether who shall die is still alive."""
        return self._death is not None

    def run_daemons(self) -> None:
        """Run judge-cleaner, necromancer, judge-evaluator, reaper, abacus and undertaker once."""
        self._clean()
        self._raise_dead()
        for rule in self._rules.values() if self.judging else ():
            held = {(did, rse) for did in self._members(rule.did) for rse in rule.rses}
            rule.locks |= {lock for lock in held if self._replicas.get((lock[1], lock[0])) == "A"}
        self._reap()
        for name, rse in self._rses.items():
            rse.counted = sum(self._size(did) for place, did in self._replicas if place == name)
        self._collections = {did: found for did, found in self._collections.items() if not found.expired}

    # The port: inputs.

    def ping(self) -> None:
        """Answer."""
        self._answers()

    def lacks(self, scope: str) -> tuple[str, ...]:
        """Say what a test has taken from the operator's account."""
        self._answers()
        found = [] if self.privileged else ["the account has no attribute admin"]
        return (*found, *([] if self.scopes is None or scope in self.scopes else [f"there is no scope {scope}"]))

    def folders(self, hosts: Collection[str]) -> Mapping[str, str | None]:
        """Give the folder of a permanent RSE at each host."""
        self._answers()
        permanent = [rse for rse in self._rses.values() if not rse.volatile]
        known = {
            door["hostname"]: f"davs://{door['hostname']}:{door['port']}/data/"
            for rse in permanent
            for door in rse.site["protocols"]
        }
        return {host: known.get(host) for host in hosts}

    def resolve(self, did: Did) -> tuple[File, ...]:
        """List the files of a DID."""
        self._answers()
        files = sorted(self._files[member] for member in self._members(did))
        if not files:
            raise RefusedError(Reason.DID_NOT_FOUND, f"{did} does not exist in Rucio, or has no files.")
        return tuple(sorted(input_of(_told(file), file.md5 or None) for file in files))

    def sources(
        self, files: Collection[File], rse_expression: str, near: str | None = None, trusted: Collection[str] = ()
    ) -> Mapping[Did, tuple[str, ...]]:
        """Give PFNs on permanent RSEs."""
        far = float("inf")
        allowed = sorted(
            self._permanent(rse_expression, Reason.NO_REPLICA),
            key=lambda rse: 0 if rse == near else self.distances.get((rse, near or ""), far),
        )
        found = {
            file.did: tuple(
                self._paths.get((rse, file.did)) or self._pfn(rse, file.did, looking)
                for rse in allowed
                if self._has(rse, file.did) and self._rses[rse].readable and ordered(self._rses[rse].site, "read")
                if (self._rses[rse].deterministic or rse in trusted) and not self._rses[rse].stages
            )
            for file in files
        }
        return {did: pfns for did, pfns in found.items() if pfns}

    def barred(self, files: Collection[Did], rse_expression: str) -> Mapping[Did, Barred]:
        """Say which files are on tape, or inside an archive."""
        found: dict[Did, Barred] = {}
        for rse in reversed(self._permanent(rse_expression, Reason.NO_REPLICA)):
            known = self._rses[rse]
            for did in files if known.readable else ():
                archive = self._archives.get(did)
                if archive is not None and self._has(rse, archive):
                    found[did] = Barred(Reason.IN_ARCHIVE, self._pfn(rse, archive, looking))
                elif known.stages and self._has(rse, did):
                    found[did] = Barred(Reason.ON_TAPE, rse)
        return found

    # The buffer's RSE.

    def ensure_ledger(self, ledger: Did, owner: LedgerOwner) -> None:
        """Create the ledger."""
        with self._write("ensure_ledger"):
            known = self._collections.setdefault(ledger, _Collection("ops", owner=owner))
            if known.owner != owner:
                raise RefusedError(
                    Reason.FOREIGN_OBJECT, f"Dataset {ledger} in Rucio is not the ledger of this buffer."
                )

    def ledgers(self, scope: str, instance: str) -> Mapping[Did, LedgerOwner]:
        """List ledgers."""
        self._answers()
        owners = {did: found.owner for did, found in self._collections.items() if did.scope == scope}
        return {did: owner for did, owner in owners.items() if owner is not None and owner.instance == instance}

    def ledgers_of(self, scope: str, record_id: str) -> Mapping[Did, LedgerOwner]:
        """List the ledgers of one buffer."""
        self._answers()
        owners = {did: found.owner for did, found in self._collections.items() if did.scope == scope}
        return {did: owner for did, owner in owners.items() if owner is not None and owner.record_id == record_id}

    def ledger_exists(self, ledger: Did) -> bool:
        """Tell whether it is there."""
        self._answers()
        return ledger in self._collections

    def take_ledger(self, ledger: Did, of: LedgerOwner, by: LedgerOwner) -> None:
        """Write another owner."""
        with self._write("take_ledger"):
            owner = self._found(ledger).owner
            if owner not in {of, by}:
                raise RefusedError(Reason.FOREIGN_OBJECT, f"Dataset {ledger} in Rucio belongs to {owner}, not to {of}.")
            self._found(ledger).owner = by

    def buffer(self, rse: str) -> BufferRse | None:
        """Describe a buffer's RSE."""
        self._answers()
        known = self._rses.get(rse)
        if known is None or not known.volatile:
            return None
        marks = {key: attribute_text(value) for key, value in known.attributes.items() if key.startswith("vrse_")}
        marks[_MARK] = known.owner or marks[_MARK]
        return BufferRse(rse, known.address, known.port("root"), known.port("davs"), marks, known.readable)

    def rse(self, rse: BufferRse) -> RseState | None:
        """Compare an RSE."""
        self._answers()
        known = self._rses.get(rse.name)
        if known is None:
            return None
        _must_be_ours(rse, known)
        lacks = [] if known.readable == rse.availability_read else [f"availability_read is {known.readable}"]
        lacks += [f"it has no protocol {door.scheme}" for door in _doors(rse) if door not in known.doors]
        lacks += [f"its attribute {key} is {known.attributes.get(key)!r}" for key in _unlike(rse, known)]
        return RseState(rse.name, tuple(lacks), deletable=known.deletable)

    def ensure_rse(self, rse: BufferRse) -> None:
        """Create the RSE."""
        with self._write("ensure_rse"):
            if rse.name in self._deleted:
                what = f"An RSE named {rse.name} was deleted before; Rucio does not give a name twice."
                raise RefusedError(Reason.FOREIGN_OBJECT, what)
            if rse.name not in self._rses:
                owner = rse.attributes[_MARK]
                self._rses[rse.name] = _Rse("", {}, owner, readable=rse.availability_read, deletable=False)
                self._wrote()
            known = self._rses[rse.name]
            _must_be_ours(rse, known)
            if known.deletable or known.readable != rse.availability_read:
                known.readable, known.deletable = rse.availability_read, False
                self._wrote()
            for key in _unlike(rse, known):
                known.attributes[key] = _stored(rse.attributes[key])
                self._wrote()
            for door in [door for door in _doors(rse) if door not in known.doors]:
                places = [(other.scheme, other.host, other.port) for other in known.doors]
                if (place := (door.scheme, door.host, door.port)) in places:
                    known.doors.pop(places.index(place))
                known.doors.append(door)
                self._wrote()

    def register(self, rse: str, ledger: Did, files: Sequence[File]) -> None:
        """Register files on the buffer."""
        with self._write("register"):
            self._put(ledger, rse, files, strict=True)

    def registered(self, ledger: Did) -> frozenset[Did]:
        """Give the content of the ledger."""
        self._answers()
        return frozenset(self._members(ledger) if ledger in self._collections else ())

    def replicas(self, rse: str, ledger: Did) -> Mapping[Did, str]:
        """Give the states of replicas."""
        self._answers()
        return {did: self._replicas[rse, did] for did in sorted(self._members(ledger)) if (rse, did) in self._replicas}

    # Outputs.

    def destinations(self, rse_expression: str) -> Mapping[str, str]:
        """Say of each RSE why outputs cannot be kept there, by its columns."""
        self._answers()
        return {rse: _why_not_kept(self._rses[rse]) for rse in self._of(rse_expression, Reason.NO_DESTINATION)}

    def doubt(self, rse: str) -> str:
        """Say why outputs cannot be kept on one."""
        self._answers()
        self.singly.append(rse)
        known = self._rses.get(rse)
        return "it has just been deleted" if known is None else _why_no_destination(known)

    def pfns(self, rse: str, files: Collection[Did]) -> Mapping[Did, str]:
        """Compute PFNs."""
        return self._computed(rse, files, writing)

    def read_pfns(self, rse: str, files: Collection[Did]) -> Mapping[Did, str]:
        """Compute the PFNs by which replicas are listed."""
        return self._computed(rse, files, looking)

    def _computed(
        self, rse: str, files: Collection[Did], choose: Callable[[Mapping[str, Any]], Door | None]
    ) -> Mapping[Did, str]:
        self._answers()
        known = self._known(rse)
        if choose(known.site) is None or not known.computable:
            why = "RucioException" if choose(known.site) else "RSEProtocolNotSupported"
            raise RefusedError(Reason.CATALOGUE_REFUSED, f"Rucio refused {rse}: {why}.")
        return {did: self._pfn(rse, did, choose) for did in files}

    def rooms(self, account: str, rses: Sequence[str]) -> Mapping[str, Room]:
        """Give what may still be locked by the limits of the account."""
        self._answers()
        return {rse: self._room(account, rse) for rse in rses}

    def narrowed(self, account: str, rse: str, room: Room) -> Room:
        """Give what the RSE leaves of it."""
        self._answers()
        self.singly.append(rse)
        if (shut := self._restriction(account, rse)) is not None:
            return shut
        known, space = self._rses.get(rse), self._space_left(rse)
        exempt = account in self.admins or (known is not None and bool(known.attributes.get("mock")))
        if exempt or space is None or (room.bytes is not None and room.bytes <= space):
            return room
        return Room(max(space, 0), "its limit MaxSpaceAvailable")

    def _space_left(self, rse: str) -> int | None:
        known = self._rses.get(rse)
        if known is None or known.space is None:
            return None
        return known.space - sum(self._size(did) for place, did in self._replicas if place == rse)

    def _restriction(self, account: str, rse: str) -> Room | None:
        known = self._rses.get(rse)
        if known is None or account in self.admins or not known.attributes.get("restricted_write"):
            return None
        return Room(0, "its attribute restricted_write, which lets only accounts with the attribute admin write")

    def _room(self, account: str, rse: str) -> Room:
        if account in self.admins:
            return Room(None)
        known = self._rses.get(rse)
        if known is None or self.quota.get((account, rse)) == 0:
            return Room(0, f"the limit of account {account!r} there, which is not set or 0")
        if known.attributes.get("mock"):
            return Room(None)
        found = []
        if (account, rse) in self.quota:
            left = self.quota[account, rse] - self._used(account, [rse])
            found.append(Room(left, f"the limit of account {account!r} there"))
        for (holder, expression), limit in self.global_quota.items():
            over = self._of(expression, Reason.QUOTA_EXCEEDED)
            if holder == account and rse in over:
                left = limit - self._used(account, over)
                found.append(Room(left, f"the global limit of account {account!r} on {expression!r}"))
        least = min(found, key=lambda room: room.bytes or 0, default=Room(None))
        return least if least.bytes is None else Room(max(least.bytes, 0), least.by)

    def _used(self, account: str, rses: Collection[str]) -> int:
        rules = [rule for rule in self._rules.values() if rule.account == account]
        return sum(self._size(did) for rule in rules for did, place in rule.locks if place in rses)

    def size(self, dataset: Did) -> int:
        """Add up the files of a dataset."""
        return sum(file.bytes for file in self.content(dataset))

    def dataset(self, did: Did) -> DatasetState | None:
        """Look at a user's dataset."""
        self._answers()
        known = self._collections.get(did)
        if known is None:
            return DatasetState("root", is_dataset=False, open=False) if did in self._files else None
        return DatasetState(known.account, is_dataset=not known.container, open=known.open)

    def maker(self, dataset: Did) -> str | None:
        """Tell which record has made it."""
        self._answers()
        return self._collections[dataset].maker if dataset in self._collections else None

    def ensure_dataset(self, dataset: Did, account: str, maker: str, *, fresh: bool = False) -> bool:
        """Create a user's dataset."""
        with self._write("ensure_dataset"):
            made = dataset not in self._collections and dataset not in self._files
            known = (
                None
                if dataset in self._files
                else self._collections.setdefault(dataset, _Collection(account, maker=maker))
            )
            if known is None or known.container or not known.open:
                why = "is closed, or no dataset"
            elif known.account != account:
                why = f"belongs to account {known.account!r}, not to {account!r}"
            elif fresh and known.maker != maker:
                why = "exists, and is not this session's"
            else:
                return made
            raise RefusedError(Reason.DATASET_REFUSED, f"{dataset} {why}: nothing is added to it.")

    def content(self, dataset: Did) -> tuple[File, ...]:
        """List the files of a dataset."""
        self._answers()
        members = self._collections[dataset].members if dataset in self._collections else ()
        files = sorted(self._files[did] for did in members if did in self._files)
        return tuple(File(file.did, size_of(_told(file)), checksum_of(_told(file))) for file in files)

    def attach(self, dataset: Did, rse: str, files: Sequence[File]) -> None:
        """Register copies and attach them."""
        with self._write("attach"):
            known = self._known(rse)
            if known.forgets or not known.deterministic:
                why = "it is volatile" if known.forgets else "PFN needed for this (non deterministic) RSE"
                raise RefusedError(Reason.CATALOGUE_REFUSED, f"Rucio refused {rse}: UnsupportedOperation: {why}.")
            self._put(dataset, rse, files, strict=True)

    def ensure_rule(self, dataset: Did, account: str, rses: Sequence[str], lifetime: int | None) -> str:
        """Hold a dataset."""
        with self._write("ensure_rule"):
            ends = None if lifetime is None else self.now() + timedelta(seconds=lifetime)
            if (found := self._rule(dataset, account, rses)) is not None:
                id_, rule = found
                if not lasts(rule.ends, lifetime, self.now()):
                    self._may_lengthen(id_, rule)
                    rule.ends = ends
                return id_
            self._may_lock(dataset, account, rses, lifetime)
            locks = {(did, rse) for did in self._members(dataset) for rse in rses if self._has(rse, did)}
            return self._add(_Rule(dataset, account, tuple(rses), locks, ends, ours=True))

    def unsafe(self, files: Collection[File], rses: Sequence[str]) -> tuple[Did, ...]:
        """Give files that are not at their destination."""
        self._answers()
        safe = {
            file.did
            for file in files
            if self._checksum(file.did) == file.adler32 and all(self._has(rse, file.did) for rse in rses)
        }
        return tuple(sorted({file.did for file in files} - safe))

    def locked_by(
        self,
        dataset: Did,
        account: str,
        rses: Sequence[str],
        term: Term | None = None,
        files: Collection[Did] = (),
    ) -> str | None:
        """Give the rule if all its locks, or all those of the files, are OK and it lasts."""
        self._answers()
        found = self._rule(dataset, account, rses)
        if found is None:
            return None
        id_, rule = found
        too_short = term is not None and not term.met_by(rule.ends, self.now())
        if self._has_ended(rule) or too_short:
            return None
        ours = {(did, rse) for did in files for rse in rses}
        return id_ if self._wanted(rule) <= rule.locks or (ours and ours <= rule.locks) else None

    def rule_state(self, dataset: Did, account: str, rses: Sequence[str]) -> RuleState | None:
        """Describe the rule."""
        self._answers()
        found = self._rule(dataset, account, rses)
        if found is None:
            return None
        id_, rule = found
        wanted = self._wanted(rule)
        seen = all(self._has(rse, did) for did, rse in wanted)
        return RuleState(id_, "OK" if seen else "REPLICATING", len(wanted & rule.locks), len(wanted))

    def held_at(self, dataset: Did, account: str) -> frozenset[str]:
        """Give the RSEs of our rules."""
        self._answers()
        rules = [rule for rule in self._rules.values() if (rule.did, rule.account) == (dataset, account) and rule.ours]
        return frozenset(rse for rule in rules if not self._has_ended(rule) for rse in rule.rses)

    # The drain.

    def standing(self, rse: str, ledger: Did) -> Standing:
        """Give replicas, and which are last copies."""
        permanent = [name for name, known in self._rses.items() if not known.volatile]
        here = self.replicas(rse, ledger)
        return Standing(here, tuple(did for did in here if not any(self._has(name, did) for name in permanent)))

    def foreign_rules(self, rse: str, ledger: Did) -> tuple[ForeignRule, ...]:
        """List rules with locks on the buffer."""
        here = set(self.replicas(rse, ledger))
        found = self.locking(rse, here)
        if not found:
            self._locked.discard(rse)
        return tuple(rule for rule in found if rse in self._locked or rule.did not in self._files)

    def hide_unasked(self, rse: str, files: Collection[Did]) -> None:
        """Hide replicas, locked ones too, as Rucio does when it is told their states alone."""
        here = {(rse, did) for did in files} & set(self._replicas)
        self._replicas.update(dict.fromkeys(here, "B"))
        self._tombs |= here

    def locking(self, rse: str, files: Collection[Did]) -> tuple[ForeignRule, ...]:
        """List all rules that lock files on an RSE, without Rucio's blindness."""
        found = []
        for id_, rule in self._rules.items():
            places = {place for _, place in rule.locks}
            if any(place == rse and did in files for did, place in rule.locks):
                found.append(ForeignRule(id_, rule.account, rule.did, only_here=places == {rse}))
        return tuple(found)

    def expire_rule(self, rule: str) -> None:
        """End a rule."""
        with self._write("expire_rule"):
            if rule in self._rules:
                self._rules[rule].ends = self.now()

    def hide(self, rse: str, files: Collection[Did]) -> None:
        """Hide replicas."""
        with self._write("hide"):
            if self.locking(rse, files):
                self._locked.add(rse)
                raise RefusedError(Reason.FOREIGN_RULE, f"Rucio refused {rse}: ReplicaIsLocked.")
            self.hide_unasked(rse, files)

    def suspend(self, rse: str, files: Collection[Did]) -> None:
        """Hide replicas, for good or bad."""
        with self._write("suspend"):
            self._replicas.update(dict.fromkeys({(rse, did) for did in files} & set(self._replicas), "T"))

    def resume(self, rse: str, files: Collection[Did]) -> None:
        """Show them again."""
        with self._write("resume"):
            self._replicas.update(dict.fromkeys({(rse, did) for did in files} & set(self._replicas), "A"))

    def allow_deletion(self, rse: str) -> None:
        """Let the reaper work."""
        with self._write("allow_deletion"):
            if rse in self._rses:
                self._rses[rse].deletable = True

    def delete_rse(self, rse: str) -> None:
        """Deregister the RSE."""
        with self._write("delete_rse"):
            known = self._rses.get(rse)
            if known is None:
                return
            if known.counted:
                what = f"Rucio still counts {known.counted} bytes on {rse}."
                raise UnreachableError(Reason.CATALOGUE_REFUSED, what)
            for key in list(known.attributes):
                del known.attributes[key]
                self._wrote()
            for door in list(known.doors):
                known.doors.remove(door)
                self._wrote()
            del self._rses[rse]
            self._deleted.add(rse)

    def expire_ledger(self, ledger: Did) -> None:
        """Let the ledger go."""
        with self._write("expire_ledger"):
            if ledger in self._collections:
                self._collections[ledger].expired = True

    # How it works inside.

    def _answers(self) -> None:
        if self.down:
            raise _unreachable()

    @contextmanager
    def _write(self, call: str) -> Iterator[None]:
        self._answers()
        if self._failures and not self._failures[0][1]:
            raise self._failures.pop(0)[0]
        yield
        self.journal.append(call)
        self._wrote()
        if self._failures:
            raise self._failures.pop(0)[0]

    def _wrote(self) -> None:
        """Count a single write that was carried out, and end the caller with its last one."""
        if self._death is None:
            return
        left, death = self._death
        self._death = (left - 1, death)
        if left == 1:
            self._death = None
            raise death

    def _known(self, rse: str) -> _Rse:
        if rse not in self._rses:
            raise RefusedError(Reason.CATALOGUE_REFUSED, f"Rucio refused {rse}: RSENotFound.")
        return self._rses[rse]

    def _found(self, collection: Did) -> _Collection:
        if collection not in self._collections:
            raise RefusedError(Reason.CATALOGUE_REFUSED, f"Rucio refused {collection}: DataIdentifierNotFound.")
        return self._collections[collection]

    def _size(self, did: Did) -> int:
        return self._files[did].bytes or 0

    def _checksum(self, did: Did) -> str | None:
        return checksum_of(_told(self._files[did])) if did in self._files else None

    def _may_lock(self, dataset: Did, account: str, rses: Sequence[str], lifetime: int | None) -> None:
        self._found(dataset)
        size = sum(self._size(did) for did in self._members(dataset))
        for rse in rses:
            known, reason, why = self._known(rse), Reason.CATALOGUE_REFUSED, ""
            left, space = self._room(account, rse).bytes, self._space_left(rse)
            here = sum(self._size(did) for did in self._members(dataset) if (rse, did) in self._replicas)
            if known.volatile or not known.writable:
                why = "RSEWriteBlocked"
            elif known.staging_area and lifetime is None:
                why = "StagingAreaRuleRequiresLifetime"
            elif left is not None and left <= size:
                # Rucio wants more than that of the account's limit there, and as much of all others.
                why, reason = "InsufficientAccountLimit", Reason.QUOTA_EXCEEDED
            elif account not in self.admins and space is not None and space < size - here:
                why, reason = "RSEOverQuota", Reason.QUOTA_EXCEEDED
            if why:
                what = f"Rucio refused a rule of account {account} for {dataset} on {rse}: {why}."
                raise RefusedError(reason, what)

    def _rule(self, dataset: Did, account: str, rses: Sequence[str]) -> tuple[str, _Rule] | None:
        wanted = (dataset, account, tuple(rses))
        rules = [(id_, rule) for id_, rule in self._rules.items() if (rule.did, rule.account, rule.rses) == wanted]
        return rules[0] if rules else None

    def _wanted(self, rule: _Rule) -> set[tuple[Did, str]]:
        return {(did, rse) for did in self._members(rule.did) for rse in rule.rses}

    def _has_ended(self, rule: _Rule) -> bool:
        return rule.ends is not None and rule.ends <= self.now()

    def _may_lengthen(self, id_: str, rule: _Rule) -> None:
        if self._has_ended(rule) or not rule.ours:
            why = "has ended" if self._has_ended(rule) else "ends too early, and no operator has made it"
            raise RefusedError(Reason.RULE_INSUFFICIENT, f"Rule {id_} for {rule.did} {why}.")

    def _put(self, collection: Did, rse: str, files: Sequence[File], *, strict: bool = False) -> None:
        """Register files, as far as they are not refused; ``strict``: by the schema of today."""
        self._known(rse)
        known = self._found(collection)
        if not known.open:
            raise RefusedError(Reason.CATALOGUE_REFUSED, f"Rucio refused files for {collection}: it is closed.")
        odd = {file.did for file in files if strict and not _has_sums(file)}
        refused = [file.did for file in files if file.did in self._lost | odd or self._differs(file)]
        for file in files:
            if file.did not in refused:
                self._files.setdefault(file.did, file)
                self._replicas.setdefault((rse, file.did), "A")
                known.members.add(file.did)
        if refused:
            why = "UnsupportedOperation: LOST" if refused[0] in self._lost else "FileConsistencyMismatch"
            why = "InvalidObject" if refused[0] in odd else why
            what = f"Rucio refused files for {collection} on {rse}: {why}: {refused[0]}."
            raise RefusedError(Reason.CATALOGUE_REFUSED, what)

    def _differs(self, file: File) -> bool:
        """Compare what is told of a file with what is known: what is not told is not compared."""
        known = self._files.get(file.did, file)
        told = ((file.adler32, known.adler32), (file.md5, known.md5))
        return file.bytes != known.bytes or any(now and now != before for now, before in told)

    def _clean(self) -> None:
        for id_ in [id_ for id_, rule in self._rules.items() if self._has_ended(rule)]:
            # The end of a lock overwrites the epoch; the reaper leaves what is younger.
            self._tombs -= {(rse, did) for did, rse in self._rules.pop(id_).locks}

    def _raise_dead(self) -> None:
        """Judge what was declared bad: a file without another replica is lost for good, and leaves every dataset."""
        for rse, did in self._bad & set(self._replicas):
            if not any(known == did and state in {"A", "T"} for (_, known), state in self._replicas.items()):
                self._lost.add(did)
                for found in self._collections.values():
                    found.members.discard(did)
                for rule in self._rules.values():
                    rule.locks.discard((did, rse))
            elif any((did, rse) in rule.locks for rule in self._rules.values()):
                # It is fetched anew for them.
                continue
            self._replicas[rse, did] = "U"
            self._tombs.add((rse, did))
        self._bad.clear()

    def _reap(self) -> None:
        locked = {lock for rule in self._rules.values() for lock in rule.locks}
        for (rse, did), state in list(self._replicas.items()):
            reaps = self._rses[rse].deletable and rse not in self.silent
            if state in {"B", "U"} and (rse, did) in self._tombs and reaps and (did, rse) not in locked:
                del self._replicas[rse, did]
                self._tombs.discard((rse, did))
                if not any(known == did for _, known in self._replicas):
                    # Rucio forgets a file with its last replica.
                    del self._files[did]
                    for found in self._collections.values():
                        found.members.discard(did)

    def _members(self, did: Did) -> set[Did]:
        if did in self._files:
            return {did}
        if did not in self._collections:
            return set()
        return {file for member in self._collections[did].members for file in self._members(member)}

    def _has(self, rse: str, did: Did) -> bool:
        return self._replicas.get((rse, did)) == "A"

    def _permanent(self, expression: str, reason: Reason) -> list[str]:
        self._answers()
        return [name for name in self._of(expression, reason) if not self._rses[name].volatile]

    def _of(self, expression: str, reason: Reason) -> list[str]:
        found = sorted({name for part in expression.split("|") for name in self._matching(part.strip())})
        if not found:
            raise RefusedError(reason, f"Rucio refused RSE expression {expression!r}: it matches no RSE.")
        return found

    def _matching(self, part: str) -> Iterator[str]:
        key, equals, value = part.partition("=")
        for name, known in self._rses.items():
            if attribute_text(known.attributes.get(key)) == attribute_text(value) if equals else part in {"*", name}:
                yield name

    def _pfn(self, rse: str, did: Did, choose: Callable[[Mapping[str, Any]], Door | None]) -> str:
        known = self._rses[rse]
        door = choose(known.site)
        path = (identity_path if known.attributes.get("lfn2pfn_algorithm") == "identity" else hash_path)(
            did.scope, did.name
        )
        return f"davs://{door['hostname'] if door else ''}:8443/store/{path}"

    def _add(self, rule: _Rule) -> str:
        id_ = f"rule-{len(self._rules)}-{len(self.journal)}"
        self._rules[id_] = rule
        return id_


def _why_no_destination(known: _Rse) -> str:
    staged = "it is TAPE (its attribute staging_required)" if known.attributes.get("staging_required") else ""
    if known.volatile:
        return _why_not_kept(known)
    return ", ".join(filter(None, [_why_not_kept(known), why_no_door(known.site), staged]))


def _why_not_kept(known: _Rse) -> str:
    if known.volatile:
        return "it is the buffer of a session"
    wrong = {
        "it is not deterministic": not known.deterministic,
        "it is volatile": known.forgets,
        "it is a staging area": known.staging_area,
        "it is TAPE": known.tape,
        "it may not be written (availability_write is False)": not known.writable,
    }
    return ", ".join(why for why, is_so in wrong.items() if is_so)


def _told(file: File) -> Mapping[str, object]:
    return {"scope": file.did.scope, "name": file.did.name, "bytes": file.bytes, "adler32": file.adler32}


def _has_sums(file: File) -> bool:
    """Tell whether a file's checksums are some by the schema of Rucio's server, if it has any."""
    sums = ((8, file.adler32), (32, file.md5))
    return all(not sum_ or re.fullmatch(rf"[a-fA-F\d]{{{size}}}", sum_) for size, sum_ in sums)


def _stored(value: str) -> str | bool:
    """Store an attribute as Rucio does.

    Raises
    ------
    UnreachableError
        Its database has no room for it, and the server fails.
    """
    if len(value) > ATTRIBUTE_LENGTH:
        what = "Rucio failed on an attribute: value too long for type character varying(255)."
        raise UnreachableError(Reason.CATALOGUE_UNREACHABLE, what)
    return {"true": True, "false": False}.get(value.lower(), value)


def _unlike(rse: BufferRse, known: _Rse) -> list[str]:
    """Name the attributes that are not as they must be."""
    return [
        key
        for key, value in rse.attributes.items()
        if key not in known.attributes or known.attributes[key] != _stored(value)
    ]


def _must_be_ours(rse: BufferRse, known: _Rse) -> None:
    owner, ours = known.owner, rse.attributes[_MARK]
    if owner != ours:
        raise RefusedError(Reason.FOREIGN_OBJECT, f"RSE {rse.name} in Rucio belongs to {owner!r}, not to {ours!r}.")


def _doors(rse: BufferRse) -> tuple[_Door, ...]:
    return _Door("davs", rse.host, rse.davs_port, 1), _Door("root", rse.host, rse.root_port, None)


def _unreachable() -> UnreachableError:
    return UnreachableError(Reason.CATALOGUE_UNREACHABLE, "Rucio does not answer: it is down.")
