"""The catalogue through the stock Rucio client.

The order and the choice of calls rest on measurements against Rucio 41.5.1: one call of ``attach_dids_to_dids`` makes
DIDs, replicas and attachments in one transaction and may be repeated; state ``B`` hides a replica at once and gives it
the epoch tombstone that a plain reaper takes; expressions and attributes are cached for minutes, single RSEs are not.
"""

from __future__ import annotations

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
)
from volatile_rse.adapters.rucio_buffers import RucioBuffers
from volatile_rse.adapters.rucio_marks import COMMENT, MAKER, MARK, RECORD
from volatile_rse.adapters.rucio_rses import RucioRses
from volatile_rse.adapters.rucio_server import RucioServer, parts
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
_KNOWN_FOR = 300.0
"""Seconds for which an RSE without our mark counts as permanent; one with it counts as volatile for good."""
_ABOUT_FILES: Mapping[str, None] = dict.fromkeys(("FileConsistencyMismatch", "UnsupportedOperation", "InvalidObject"))
"""How Rucio refuses all files of a call because of one: known otherwise, LOST, or of a name that it does not take."""
_LOCKED: Mapping[str, Reason | None] = {
    "ReplicaIsLocked": Reason.FOREIGN_RULE,
    "ReplicaNotFound": None,
    "RSENotFound": None,
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
        self._rses = RucioRses(self._server)
        self._buffers = RucioBuffers(self._server, self._rses)
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
        ranks = {rse: self._rses.distance(rse, near) for rse in self._rses.permanent(rse_expression, Reason.NO_REPLICA)}
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
        return self._buffers.describe(rse)

    def rse(self, rse: BufferRse) -> RseState | None:
        """Compare an RSE with what it must be."""
        return self._buffers.compare(rse)

    def ensure_rse(self, rse: BufferRse) -> None:
        """Create the RSE and complete it."""
        self._buffers.ensure(rse)

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
        return self._rses.destinations(rse_expression)

    def pfns(self, rse: str, files: Collection[Did]) -> Mapping[Did, str]:
        """Compute PFNs."""
        return self._rses.pfns(rse, files)

    def host(self, rse: str) -> str:
        """Give the host of an RSE's davs door."""
        return self._rses.host(rse)

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
            if all(self._rses.is_volatile(name) for name in there):
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
        self._buffers.allow_deletion(rse)

    def delete_rse(self, rse: str) -> None:
        """Deregister the RSE."""
        self._buffers.delete(rse)
        self._locked.discard(rse)

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
