"""The catalogue through the stock Rucio client.

The order and the choice of calls rest on measurements against Rucio 41.5.1: one call of ``attach_dids_to_dids`` makes
DIDs, replicas and attachments in one transaction and may be repeated; state ``B`` hides a replica at once and gives it
the epoch tombstone that a plain reaper takes; expressions and attributes are cached for minutes, single RSEs are not.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from volatile_rse.adapters.gate import Gate
from volatile_rse.adapters.rucio_answers import (
    checksum_of,
    file_of,
    is_past,
    letter_of,
    moment_of,
    source_pfns,
    usual_paths,
)
from volatile_rse.adapters.rucio_marks import COMMENT, MAKER, MARK, OWNER, RECORD, is_operators
from volatile_rse.adapters.rucio_server import RucioServer, parts, url_parts
from volatile_rse.api.conditions import Reason
from volatile_rse.api.rucioconnection import RucioConnectionSpec
from volatile_rse.domain.catalogue import (
    BufferRse,
    DatasetState,
    Did,
    File,
    ForeignRule,
    LedgerOwner,
    RseState,
    RuleState,
    Standing,
    Term,
    lasts,
)
from volatile_rse.ports.catalogue import Catalogue
from volatile_rse.ports.errors import RefusedError, UnreachableError

__all__ = ["RucioCatalogue"]

T = TypeVar("T")
_REMEMBERED = 10_000
"""RSEs that are known to be volatile, until all are asked for again."""

_KNOWN_FOR = 300.0
"""Seconds for which an RSE without our mark counts as permanent; one with it counts as volatile for good."""
_SITE_KNOWN_FOR = 60.0
"""Seconds for which the doors of a permanent RSE count as seen."""
_ABOUT_FILES: Mapping[str, None] = dict.fromkeys(("FileConsistencyMismatch", "UnsupportedOperation", "InvalidObject"))
"""How Rucio refuses all files of a call because of one: known otherwise, LOST, or of a name that it does not take."""
_LOCKED: Mapping[str, Reason | None] = {
    "ReplicaIsLocked": Reason.FOREIGN_RULE,
    "ReplicaNotFound": None,
    "RSENotFound": None,
}
_DOMAINS = {
    "lan": {"read": 1, "write": 1, "delete": 1},
    "wan": {"read": 1, "write": 1, "delete": 1, "third_party_copy_read": 1, "third_party_copy_write": 1},
}
_SECOND = {
    "lan": {"read": 2, "write": 2, "delete": 2},
    "wan": {"read": 2, "write": 2, "delete": 2, "third_party_copy_read": 0, "third_party_copy_write": 0},
}


class RucioCatalogue(Catalogue):
    """One Rucio server, as one account.

    Parameters
    ----------
    authorities
        Certificates (PEM) that verify the server; None: the system's.
    private
        Directory for session tokens and the client's configuration; nobody else may read it.
    gate
        Of the server: shared by all that ask it; None: one of its own.
    """

    def __init__(
        self,
        connection: RucioConnectionSpec,
        login: tuple[str, str],
        authorities: str | None,
        private: Path,
        gate: Gate | None = None,
    ) -> None:
        self._server = RucioServer(connection, login, authorities, private, gate)
        self._permanent_until: dict[str, float] = {}
        self._volatile: set[str] = set()
        self._sites: dict[str, tuple[dict[str, Any] | None, float]] = {}
        self._marked: dict[str, tuple[Mapping[str, str], float]] = {}
        """RSE -> its attributes, and until when they count as seen."""
        self._locked: set[str] = set()
        """RSEs of which a replica could not be hidden, because a rule locks it."""

    def ping(self) -> None:
        """Check that the server answers and takes our credential."""
        self._server.call("the server", "whoami")

    # Inputs.

    def resolve(self, did: Did) -> tuple[File, ...]:
        """List the files of a DID."""
        found = self._server.call(
            str(did),
            "list_files",
            scope=did.scope,
            name=did.name,
            tolerate={"DataIdentifierNotFound": Reason.DID_NOT_FOUND},
        )
        bare = [entry for entry in found if not entry.get("adler32") or entry.get("bytes") is None]
        if bare:
            what = f"{bare[0]['scope']}:{bare[0]['name']} of {did} has no size or no adler32 checksum in Rucio."
            raise RefusedError(Reason.DID_NOT_FOUND, what)
        if not found:
            raise RefusedError(Reason.DID_NOT_FOUND, f"{did} does not exist in Rucio, or has no files.")
        return tuple(sorted({file_of(entry) for entry in found}))

    def sources(
        self, files: Collection[File], rse_expression: str, near: str | None = None
    ) -> Mapping[Did, tuple[str, ...]]:
        """Give the davs PFNs of AVAILABLE replicas on permanent RSEs."""
        ranks = {rse: self._distance(rse, near) for rse in self._permanent(rse_expression, Reason.NO_REPLICA)}
        return {
            did: pfns
            for did, entry in self._replicas([file.did for file in files], schemes=["davs"], ignore_availability=False)
            if (pfns := source_pfns(entry, ranks))
        }

    # The buffer's RSE.

    def ensure_ledger(self, ledger: Did, owner: LedgerOwner) -> None:
        """Create the ledger dataset with its owner."""
        meta = {MARK: owner.instance, RECORD: owner.record_id}
        made = self._server.call(
            str(ledger),
            "add_dataset",
            ledger.scope,
            ledger.name,
            meta=meta,
            tolerate={"DataIdentifierAlreadyExists": None},
        )
        if made is None and self._owner(ledger) != owner:
            raise RefusedError(Reason.FOREIGN_OBJECT, f"Dataset {ledger} in Rucio is not the ledger of this buffer.")

    def ledgers(self, scope: str, instance: str) -> Mapping[Did, LedgerOwner]:
        """List the ledger datasets of an instance."""
        return self._ledgers(scope, MARK, instance)

    def ledgers_of(self, scope: str, record_id: str) -> Mapping[Did, LedgerOwner]:
        """List the ledger datasets of one buffer."""
        return self._ledgers(scope, RECORD, record_id)

    def ledger_exists(self, ledger: Did) -> bool:
        """Tell whether the ledger is there."""
        return self._did(ledger) is not None

    def take_ledger(self, ledger: Did, of: LedgerOwner, by: LedgerOwner) -> None:
        """Write another owner into a ledger's metadata."""
        owner = self._owner(ledger)
        if owner not in {of, by}:
            raise RefusedError(Reason.FOREIGN_OBJECT, f"Dataset {ledger} in Rucio belongs to {owner}, not to {of}.")
        if owner == of and of != by:
            # In one call: a ledger that is another's by now always tells whose mark its RSE bears.
            meta = {MARK: by.instance, MAKER: by.maker}
            self._server.call(str(ledger), "set_metadata_bulk", ledger.scope, ledger.name, meta)

    def buffer(self, rse: str) -> BufferRse | None:
        """Describe a buffer's RSE."""
        found, attributes = self._rse(rse), self._attributes(rse)
        if found is None or not self._is_volatile(rse):
            return None
        doors = {door["scheme"]: (door["hostname"], int(door["port"])) for door in found["protocols"]}
        host, davs = doors.get("davs", ("", 0))
        marks = {key: str(value) for key, value in attributes.items() if key.startswith("vrse_")}
        # The mark that no crash leaves out counts.
        marks[MARK] = str(attributes.get(OWNER) or marks.get(MARK))
        return BufferRse(rse, host, doors.get("root", ("", 0))[1], davs, marks, bool(found["availability_read"]))

    def rse(self, rse: BufferRse) -> RseState | None:
        """Compare an RSE with what it must be."""
        found = self._rse(rse.name)
        if found is None:
            return None
        marked = self._is_marked(rse)
        doors = {(door["scheme"], door["hostname"], door["port"]) for door in found["protocols"]}
        complete = (
            not found["availability_write"]
            and found["availability_read"] == rse.availability_read
            and {(scheme, rse.host, port) for scheme, port in _doors(rse)} <= doors
            and marked
        )
        return RseState(rse.name, complete=complete, deletable=bool(found["availability_delete"]))

    def ensure_rse(self, rse: BufferRse) -> None:
        """Create the RSE and complete it."""
        flags = {"availability_read": rse.availability_read, "availability_write": False, "availability_delete": False}
        made = self._server.call(
            rse.name,
            "add_rse",
            rse.name,
            deterministic=True,
            volatile=False,
            rse_type="DISK",
            **{OWNER: rse.attributes[MARK]},
            **flags,
            tolerate={"Duplicate": None},
        )
        attributes: Mapping[str, Any] = {}
        if made is None:
            self._complete_flags(rse, flags)
            attributes = self._attributes(rse.name)
        for key, value in rse.attributes.items():
            if attributes.get(key) != value:
                self._server.call(rse.name, "add_rse_attribute", rse.name, key, value)
        for order, (scheme, port) in enumerate(_doors(rse)):
            door = {
                "scheme": scheme,
                "hostname": rse.host,
                "port": port,
                "prefix": "/store/" if scheme == "davs" else "//store/",
                "impl": "rucio.rse.protocols.gfal.Default",
                "domains": _SECOND if order else _DOMAINS,
                "extended_attributes": None,
            }
            self._server.call(rse.name, "add_protocol", rse.name, door, tolerate={"Duplicate": None})

    def register(self, rse: str, ledger: Did, files: Sequence[File]) -> None:
        """Register files on the buffer and in its ledger."""
        self._attach(ledger, rse, files)

    def registered(self, ledger: Did) -> frozenset[Did]:
        """Give the content of the ledger."""
        absent = {"DataIdentifierNotFound": None}
        found = self._server.call(str(ledger), "list_content", ledger.scope, ledger.name, tolerate=absent)
        return frozenset(Did(entry["scope"], entry["name"]) for entry in found or ())

    def replicas(self, rse: str, ledger: Did) -> Mapping[Did, str]:
        """Give the states of the ledger's replicas on the buffer."""
        found = self._replicas([ledger], all_states=True)
        return {did: letter_of(entry["states"][rse]) for did, entry in found if rse in entry.get("states", {})}

    # Outputs.

    def destinations(self, rse_expression: str) -> tuple[str, ...]:
        """List permanent, writable RSEs with davs."""
        names = []
        for name in self._permanent(rse_expression, Reason.NO_DESTINATION):
            found = self._site(name)
            if found and found["availability_write"] and any(door["scheme"] == "davs" for door in found["protocols"]):
                names.append(name)
        if not names:
            what = f"No permanent RSE of {rse_expression!r} can be written by davs."
            raise RefusedError(Reason.NO_DESTINATION, what)
        return tuple(sorted(names))

    def pfns(self, rse: str, files: Collection[Did]) -> Mapping[Did, str]:
        """Compute PFNs: by ourselves where the rule is the usual one, since Rucio takes few names in a call."""
        if (usual := usual_paths(self._site(rse))) is not None:
            prefix, path_of = usual
            return {did: f"{prefix}{path_of(did.scope, did.name)}" for did in files}
        found: dict[Did, str] = {}
        for names in url_parts([str(did) for did in files]):
            answer = self._server.call(rse, "lfns2pfns", rse, names, operation="write", scheme="davs")
            found.update({Did.parse(name): pfn for name, pfn in answer.items()})
        return found

    def host(self, rse: str) -> str:
        """Give the host of an RSE's davs door."""
        doors = [door for door in (self._site(rse) or {}).get("protocols", ()) if door["scheme"] == "davs"]
        if not doors:
            raise RefusedError(Reason.NO_DESTINATION, f"RSE {rse} has no davs protocol.")
        return str(doors[0]["hostname"])

    def quota_left(self, account: str, rse: str) -> int | None:
        """Give what an account may still lock on an RSE."""
        about = f"the limits of account {account}"
        limit = self._server.call(about, "get_local_account_limit", account, rse).get(rse)
        if limit is None:
            return 0
        if limit in {-1, float("inf")}:
            return None
        rows = self._server.call(about, "get_local_account_usage", account, rse)
        used = sum(row["bytes"] for row in rows if row["rse"] == rse)
        return max(int(limit) - int(used), 0)

    def dataset(self, did: Did) -> DatasetState | None:
        """Look at a user's dataset."""
        known = self._did(did)
        if known is None:
            return None
        is_dataset = known["type"] == "DATASET"
        return DatasetState(known["account"], is_dataset=is_dataset, open=is_dataset and bool(known.get("open", True)))

    def maker(self, dataset: Did) -> str | None:
        """Tell which record has made it."""
        record = self._meta(dataset).get(RECORD)
        return None if record is None else str(record)

    def ensure_dataset(self, dataset: Did, account: str, maker: str, *, fresh: bool = False) -> bool:
        """Create a user's dataset."""
        body: dict[str, Any] = {"scope": dataset.scope, "name": dataset.name, "type": "DATASET", "account": account}
        # In the same transaction: of several that make it at a time, all see whose it is.
        body["meta"] = {RECORD: maker}
        exists = {"DataIdentifierAlreadyExists": None}
        if self._server.call(str(dataset), "add_dids", [body], tolerate=exists) is not None:
            return True
        known = self.dataset(dataset)
        if known is None:
            why = "is a name that is given no more"
        elif not known.is_dataset:
            why = "is no dataset"
        elif not known.open:
            why = "is closed"
        elif known.account != account:
            why = f"belongs to account {known.account!r}, not to {account!r}"
        elif fresh and self.maker(dataset) != maker:
            why = "exists, and is not this session's"
        else:
            return False
        raise RefusedError(Reason.DATASET_REFUSED, f"{dataset} {why}: nothing is added to it.")

    def content(self, dataset: Did) -> tuple[File, ...]:
        """List the files of a dataset."""
        absent = {"DataIdentifierNotFound": None}
        found = self._server.call(str(dataset), "list_content", dataset.scope, dataset.name, tolerate=absent)
        # A file without size or checksum is no version of ours, but it has its path.
        return tuple(
            File(Did(entry["scope"], entry["name"]), int(entry.get("bytes") or 0), checksum_of(entry))
            for entry in found or ()
            if entry["type"] == "FILE"
        )

    def attach(self, dataset: Did, rse: str, files: Sequence[File]) -> None:
        """Register copies and attach them."""
        self._attach(dataset, rse, files)

    def ensure_rule(self, dataset: Did, account: str, rses: Sequence[str], lifetime: int | None) -> str:
        """Hold a dataset on RSEs."""
        body = {"scope": dataset.scope, "name": dataset.name}
        made = self._server.call(
            f"a rule of account {account} for {dataset} on {', '.join(rses)}",
            "add_replication_rule",
            [body],
            len(rses),
            "|".join(rses),
            lifetime=lifetime,
            account=account,
            comment=COMMENT,
            tolerate={"DuplicateRule": None, "InsufficientAccountLimit": Reason.QUOTA_EXCEEDED},
        )
        if made is not None:
            return str(made[0])
        known = self._rule(dataset, account, rses)
        if known is None:
            what = f"Rucio says that a rule for {dataset} on {', '.join(rses)} exists, and lists none."
            raise RefusedError(Reason.CATALOGUE_REFUSED, what)
        self._have_it_last(known, lifetime)
        return str(known["id"])

    def unsafe(self, files: Collection[File], rses: Sequence[str]) -> tuple[Did, ...]:
        """Give the files that are not at their destination."""
        wanted = {file.did: file.adler32 for file in files}
        safe = {
            did
            for did, entry in self._replicas(list(wanted))
            if set(rses) <= set(entry.get("rses", {})) and checksum_of(entry) == wanted[did]
        }
        return tuple(sorted(set(wanted) - safe))

    def locked_by(
        self,
        dataset: Did,
        account: str,
        rses: Sequence[str],
        term: Term | None = None,
        files: Collection[Did] = (),
    ) -> str | None:
        """Give the rule if all its locks, or all those of the files, are OK and it lasts."""
        rule = self._rule(dataset, account, rses)
        if rule is None or is_past(rule["expires_at"]):
            return None
        if term is not None and not term.met_by(moment_of(rule["expires_at"]), datetime.now(UTC)):
            return None
        # An unjudged rule is OK, too: only its locks tell.
        whole = rule["state"] == "OK" and int(rule["locks_ok_cnt"]) >= self._length(dataset) * len(rses)
        return str(rule["id"]) if whole or self._are_locked(rule, files, rses) else None

    def rule_state(self, dataset: Did, account: str, rses: Sequence[str]) -> RuleState | None:
        """Describe the rule."""
        rule = self._rule(dataset, account, rses)
        if rule is None:
            return None
        ok, stuck = int(rule["locks_ok_cnt"]), int(rule["locks_stuck_cnt"])
        return RuleState(str(rule["id"]), str(rule["state"]), ok, self._length(dataset) * len(rses), stuck)

    def held_at(self, dataset: Did, account: str) -> frozenset[str]:
        """Give the RSEs of our rules."""
        ours = [
            rule
            for rule in self._rules(dataset)
            if rule["account"] == account and rule.get("comments") == COMMENT and not is_past(rule["expires_at"])
        ]
        return frozenset(rse for rule in ours for rse in rule["rse_expression"].split("|"))

    # The drain.

    def standing(self, rse: str, ledger: Did) -> Standing:
        """Give replicas, and which have no AVAILABLE one on a permanent RSE."""
        here: dict[Did, str] = {}
        last = []
        for did, entry in self._replicas([ledger], all_states=True):
            states = entry.get("states", {})
            if rse not in states:
                continue
            here[did] = letter_of(states[rse])
            there = [name for name, state in states.items() if name != rse and letter_of(state) == "A"]
            if all(self._is_volatile(name) for name in there):
                last.append(did)
        return Standing(here, tuple(sorted(last)))

    def foreign_rules(self, rse: str, ledger: Did) -> tuple[ForeignRule, ...]:
        """List unexpired rules with locks on the buffer."""
        locks = self._server.call(rse, "get_dataset_locks_by_rse", rse, tolerate={"RSENotFound": None}) or ()
        rules = {str(lock["rule_id"]) for lock in locks}
        if rse in self._locked:
            for did in self.replicas(rse, ledger):
                rules |= self._rules_of_file(did)
        found = [self._foreign(rule, rse) for rule in sorted(rules)]
        locking = tuple(rule for rule in found if rule is not None)
        if not locking:
            self._locked.discard(rse)
        return locking

    def expire_rule(self, rule: str) -> None:
        """End a rule."""
        about, absent = f"rule {rule}", {"RuleNotFound": None}
        found = self._server.call(about, "get_replication_rule", rule, tolerate=absent)
        # Rucio fails on a change of a rule that its judge-cleaner is removing: one that has ended is left alone.
        if found is None or (not found["locked"] and is_past(found["expires_at"])):
            return
        self._server.call(about, "update_replication_rule", rule, {"locked": False, "lifetime": 0}, tolerate=absent)

    def hide(self, rse: str, files: Collection[Did]) -> None:
        """Hide replicas, unless a rule locks one: Rucio would hide it all the same."""
        for part in parts(files):
            self._refuse_locked(rse, part)
            self._set_states(rse, part, "B")

    def suspend(self, rse: str, files: Collection[Did]) -> None:
        """Hide replicas whose bytes are lost; unlike ``hide``, without a tombstone."""
        for part in parts(files):
            self._set_states(rse, part, "T")

    def resume(self, rse: str, files: Collection[Did]) -> None:
        """Show replicas whose bytes are back."""
        for part in parts(files):
            self._set_states(rse, part, "A")

    def allow_deletion(self, rse: str) -> None:
        """Let the reaper work."""
        self._server.call(rse, "update_rse", rse, {"availability_delete": True}, tolerate={"RSENotFound": None})

    def delete_rse(self, rse: str) -> None:
        """Deregister the RSE."""
        found = self._rse(rse)
        if found is None:
            self._forget(rse)
            return
        usage = self._server.call(rse, "get_rse_usage", rse, filters={"source": "rucio"})
        if used := sum(row.get("used") or 0 for row in usage):
            what = (
                f"Rucio still counts {used} bytes on {rse}: its daemons reaper and abacus-rse have not finished, or "
                "somebody registered replicas there that are not this buffer's: an admin must give these a tombstone."
            )
            raise UnreachableError(Reason.CATALOGUE_REFUSED, what)
        for limit in self._server.call(rse, "get_rse_limits", rse):
            self._server.call(rse, "delete_rse_limits", rse, limit)
        for key in self._attributes(rse):
            # Rucio itself gives every RSE one of its own name, and shows a column as one.
            if key not in {rse, OWNER}:
                self._server.call(rse, "delete_rse_attribute", rse, key, tolerate={"RSEAttributeNotFound": None})
        for door in found["protocols"]:
            self._server.call(
                rse,
                "delete_protocols",
                rse,
                door["scheme"],
                door["hostname"],
                door["port"],
                tolerate={"RSEProtocolNotSupported": None},
            )
        self._server.call(rse, "delete_rse", rse, tolerate={"RSENotFound": None})
        self._forget(rse)

    def expire_ledger(self, ledger: Did) -> None:
        """Let the ledger go."""
        self._server.call(
            str(ledger),
            "set_metadata",
            ledger.scope,
            ledger.name,
            "lifetime",
            0,
            tolerate={"DataIdentifierNotFound": None},
        )

    # Parts.

    def _complete_flags(self, rse: BufferRse, flags: Mapping[str, bool]) -> None:
        found = self._rse(rse.name)
        if found is None:
            what = f"An RSE named {rse.name} was deleted before; Rucio does not give a name twice."
            raise RefusedError(Reason.FOREIGN_OBJECT, what)
        _must_be_ours(rse, self._attributes(rse.name))
        wrong = {key: value for key, value in flags.items() if found[key] != value}
        if wrong:
            self._server.call(rse.name, "update_rse", rse.name, wrong)

    def _is_marked(self, rse: BufferRse) -> bool:
        """Compare the attributes; right ones count for a while, as Rucio itself remembers them.

        Raises
        ------
        RefusedError
            FOREIGN_OBJECT: it is somebody else's. Whose it is does not change: Rucio gives no name twice.
        """
        known = self._marked.get(rse.name)
        if known is not None and known[0] == rse.attributes and time.monotonic() < known[1]:
            return True
        attributes = self._attributes(rse.name)
        _must_be_ours(rse, attributes)
        if any(attributes.get(key) != value for key, value in rse.attributes.items()):
            return False
        self._marked[rse.name] = rse.attributes, time.monotonic() + _KNOWN_FOR
        return True

    def _refuse_locked(self, rse: str, files: Sequence[Did]) -> None:
        """Find out whether rules lock any: Rucio lists no rule by RSE, but refuses a tombstone under a lock."""
        names = [{"rse": rse, "scope": did.scope, "name": did.name} for did in files]
        try:
            if self._server.call(rse, "set_tombstone", names, tolerate=_LOCKED) is not None:
                return
        except RefusedError as error:
            if error.reason is Reason.FOREIGN_RULE:
                self._locked.add(rse)
            raise
        # One that the reaper took ends the whole call: ask again for what is left.
        left = self._left(rse, files)
        if left:
            self._refuse_locked(rse, left)

    def _set_states(self, rse: str, files: Sequence[Did], letter: str) -> None:
        states = [{"scope": did.scope, "name": did.name, "state": letter} for did in files]
        absent = {"ReplicaNotFound": None, "RSENotFound": None}
        if self._server.call(rse, "update_replicas_states", rse, states, tolerate=absent) is not None:
            return
        # One that the reaper took fails the whole call: ask again for what is left.
        left = self._left(rse, files)
        if left:
            self._set_states(rse, left, letter)

    def _left(self, rse: str, files: Sequence[Did]) -> list[Did]:
        """Give those of the replicas that are still there, after Rucio has said that one is not."""
        left = [did for did, entry in self._replicas(files, all_states=True) if rse in entry.get("states", {})]
        if left and len(left) == len(files):
            what = f"Rucio lists all {len(left)} replicas to change on {rse}, and says that one is absent."
            raise UnreachableError(Reason.CATALOGUE_REFUSED, what)
        return left

    def _attach(self, collection: Did, rse: str, files: Sequence[File]) -> None:
        refused: list[RefusedError] = []
        for part in parts(files):
            refused += self._attach_part(collection, rse, part)
        if refused:
            more = f" So are {len(refused) - 1} others." if len(refused) > 1 else ""
            raise RefusedError(Reason.CATALOGUE_REFUSED, f"{refused[0].what}{more}")

    def _attach_part(self, collection: Did, rse: str, part: Sequence[File]) -> list[RefusedError]:
        """Attach what can be: Rucio takes all or nothing, so halves are tried until the refused files stand alone."""
        dids = [
            {"scope": file.did.scope, "name": file.did.name, "bytes": file.bytes, "adler32": file.adler32}
            for file in part
        ]
        body = [{"scope": collection.scope, "name": collection.name, "rse": rse, "dids": dids}]
        about = f"{part[0].did if len(part) == 1 else f'{len(part)} files'} for {collection} on {rse}"
        call = "attach_dids_to_dids"
        if self._server.call(about, call, body, ignore_duplicate=True, tolerate=_ABOUT_FILES) is not None:
            return []
        if len(part) == 1 or not self._takes_files(collection):
            try:
                self._server.call(about, call, body, ignore_duplicate=True)
            except RefusedError as error:
                if len(part) == 1:
                    return [error]
                raise
            return []
        middle = len(part) // 2
        halves = part[:middle], part[middle:]
        return [error for half in halves for error in self._attach_part(collection, rse, half)]

    def _takes_files(self, collection: Did) -> bool:
        """Tell whether a refusal can be about single files: a closed dataset refuses them all."""
        known = self.dataset(collection)
        return known is not None and known.is_dataset and known.open

    def _replicas(self, dids: Collection[Did], **options: Any) -> Iterator[tuple[Did, dict[str, Any]]]:  # noqa: ANN401
        for part in parts(dids):
            names = [{"scope": did.scope, "name": did.name} for did in part]
            entries = self._server.call(
                f"replicas of {part[0]} and {len(part) - 1} more",
                "list_replicas",
                names,
                **options,
                tolerate={"DataIdentifierNotFound": None},
            )
            for entry in entries or ():
                yield Did(entry["scope"], entry["name"]), entry

    def _permanent(self, expression: str, reason: Reason) -> list[str]:
        found = self._server.call(
            f"RSE expression {expression!r}",
            "list_rses",
            expression,
            tolerate={"InvalidRSEExpression": reason, "RSENotFound": reason},
        )
        return [entry["rse"] for entry in found if not self._is_volatile(entry["rse"])]

    def _distance(self, rse: str, near: str | None) -> float:
        if near is None or rse == near:
            return 0
        rows = self._server.call(
            f"the distance from {rse} to {near}", "get_distance", rse, near, tolerate={"RSENotFound": None}
        )
        known = [row["distance"] for row in rows or () if row.get("distance") is not None]
        return min(known, default=float("inf"))

    def _forget(self, rse: str) -> None:
        """Drop what was remembered of an RSE that is gone."""
        for names in (self._volatile, self._locked):
            names.discard(rse)
        for known in (self._marked, self._permanent_until, self._sites):
            known.pop(rse, None)

    def _is_volatile(self, rse: str) -> bool:
        if rse in self._volatile:
            return True
        if time.monotonic() < self._permanent_until.get(rse, 0):
            return False
        attributes = self._attributes(rse)
        if is_operators(attributes):
            if len(self._volatile) >= _REMEMBERED:
                # Those of other operators go, and nobody tells.
                self._volatile.clear()
            self._volatile.add(rse)
            return True
        self._permanent_until[rse] = time.monotonic() + _KNOWN_FOR
        return False

    def _rse(self, rse: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self._server.call(rse, "get_rse", rse, tolerate={"RSENotFound": None})
        return found

    def _site(self, rse: str) -> dict[str, Any] | None:
        """Describe a permanent RSE, as it was a minute ago at most."""
        known = self._sites.get(rse)
        if known is None or time.monotonic() >= known[1]:
            known = self._sites[rse] = self._rse(rse), time.monotonic() + _SITE_KNOWN_FOR
        return known[0]

    def _attributes(self, rse: str) -> dict[str, Any]:
        return self._server.call(rse, "list_rse_attributes", rse, tolerate={"RSENotFound": None}) or {}

    def _did(self, did: Did) -> dict[str, Any] | None:
        absent = {"DataIdentifierNotFound": None}
        found: dict[str, Any] | None = self._server.call(str(did), "get_did", did.scope, did.name, tolerate=absent)
        return found

    def _ledgers(self, scope: str, key: str, value: str) -> Mapping[Did, LedgerOwner]:
        names = self._server.call(
            f"scope {scope}",
            "list_dids",
            scope,
            [{key: value}],
            did_type="dataset",
            tolerate={"DataIdentifierNotFound": None},
        )
        return {did: owner for name in names or () if (owner := self._owner(did := Did(scope, name))) is not None}

    def _owner(self, ledger: Did) -> LedgerOwner | None:
        meta = self._meta(ledger)
        if MARK not in meta:
            return None
        return LedgerOwner(meta[MARK], meta.get(RECORD, ""), meta.get(MAKER, ""))

    def _meta(self, did: Did) -> Mapping[str, Any]:
        absent = {"DataIdentifierNotFound": None}
        return self._server.call(str(did), "get_metadata", did.scope, did.name, plugin="JSON", tolerate=absent) or {}

    def _rule(self, dataset: Did, account: str, rses: Sequence[str]) -> dict[str, Any] | None:
        wanted = (account, "|".join(rses), len(rses))
        matching = [
            rule for rule in self._rules(dataset) if (rule["account"], rule["rse_expression"], rule["copies"]) == wanted
        ]
        return matching[0] if matching else None

    def _rules(self, dataset: Did) -> Sequence[dict[str, Any]]:
        absent = {"DataIdentifierNotFound": None}
        return self._server.call(str(dataset), "list_did_rules", dataset.scope, dataset.name, tolerate=absent) or ()

    def _length(self, dataset: Did) -> int:
        """Count the files of a dataset."""
        return int(self._server.call(str(dataset), "get_did", dataset.scope, dataset.name, "FILE")["length"] or 0)

    def _are_locked(self, rule: Mapping[str, Any], files: Collection[Did], rses: Sequence[str]) -> bool:
        """Tell whether a rule that is not whole holds these files, which no lock of another one changes."""
        wanted = {(did.scope, did.name, rse) for did in files for rse in rses}
        if not wanted or int(rule["locks_ok_cnt"]) < len(wanted):
            return False
        about, absent = f"rule {rule['id']}", {"RuleNotFound": None}
        locks = self._server.call(about, "list_replica_locks", rule["id"], tolerate=absent) or ()
        return wanted <= {(lock["scope"], lock["name"], lock["rse"]) for lock in locks if lock["state"] == "OK"}

    def _have_it_last(self, rule: Mapping[str, Any], lifetime: int | None) -> None:
        """Lengthen a rule that another session has left, and none of anybody else.

        Raises
        ------
        RefusedError
            RULE_INSUFFICIENT: it holds for too short a time, and is not to be changed.
        """
        end = moment_of(rule["expires_at"])
        if lasts(end, lifetime, datetime.now(UTC)):
            return
        about = f"rule {rule['id']}"
        named = (
            f"Rule {rule['id']} of account {rule['account']!r} for {rule['scope']}:{rule['name']} on "
            f"{rule['rse_expression']}"
        )
        if is_past(rule["expires_at"]) and not rule["locked"]:
            # Lengthened now it would go all the same, if Rucio's judge-cleaner has it in its hands already.
            what = f"{named} has ended at {end}: a new one is made once Rucio's judge-cleaner has removed it."
            raise RefusedError(Reason.RULE_INSUFFICIENT, what)
        if rule.get("comments") != COMMENT:
            what = f"{named} ends at {end}, earlier than this session's outputs may, and no operator has made it."
            raise RefusedError(Reason.RULE_INSUFFICIENT, what)
        options = {"lifetime": lifetime}
        self._server.call(about, "update_replication_rule", rule["id"], options, tolerate={"RuleNotFound": None})

    def _rules_of_file(self, did: Did) -> set[str]:
        rules = self._server.call(
            str(did), "list_associated_rules_for_file", did.scope, did.name, tolerate={"DataIdentifierNotFound": None}
        )
        return {str(rule["id"]) for rule in rules or ()}

    def _foreign(self, rule: str, rse: str) -> ForeignRule | None:
        found = self._server.call(f"rule {rule}", "get_replication_rule", rule, tolerate={"RuleNotFound": None})
        if found is None:
            return None
        locks = self._server.call(f"rule {rule}", "list_replica_locks", rule, tolerate={"RuleNotFound": None})
        places = {lock["rse"] for lock in locks or ()}
        if rse not in places:
            return None
        did = Did(found["scope"], found["name"])
        return ForeignRule(rule, found["account"], did, only_here=places == {rse})


def _must_be_ours(rse: BufferRse, attributes: Mapping[str, Any]) -> None:
    owner = attributes.get(OWNER)
    if owner != rse.attributes[MARK]:
        what = f"RSE {rse.name} in Rucio belongs to {owner!r}, not to {rse.attributes[MARK]!r}."
        raise RefusedError(Reason.FOREIGN_OBJECT, what)


def _doors(rse: BufferRse) -> tuple[tuple[str, int], ...]:
    """Give schemes and ports, the preferred one first: Rucio's daemons use davs."""
    return ("davs", rse.davs_port), ("root", rse.root_port)
