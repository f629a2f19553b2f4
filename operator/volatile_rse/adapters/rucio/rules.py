"""Rules in Rucio: those that hold outputs, and those that lock a buffer."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from volatile_rse.adapters.rucio.answers import is_past, moment_of
from volatile_rse.adapters.rucio.marks import COMMENT
from volatile_rse.adapters.rucio.replicas import RucioReplicas
from volatile_rse.adapters.rucio.server import RucioServer
from volatile_rse.api.conditions import Reason
from volatile_rse.domain.catalogue import Did, ForeignRule, RuleState, Term, lasts
from volatile_rse.ports.errors import RefusedError

__all__ = ["RucioRules"]


class RucioRules:
    """The rules of one server."""

    def __init__(self, server: RucioServer, replicas: RucioReplicas) -> None:
        self._server = server
        self._replicas = replicas

    def ensure(self, dataset: Did, account: str, rses: Sequence[str], lifetime: int | None) -> str:
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
            tolerate={
                "DuplicateRule": None,
                "InsufficientAccountLimit": Reason.QUOTA_EXCEEDED,
                "RSEOverQuota": Reason.QUOTA_EXCEEDED,
            },
        )
        if made is not None:
            return str(made[0])
        known = self._rule(dataset, account, rses)
        if known is None:
            what = f"Rucio says that a rule for {dataset} on {', '.join(rses)} exists, and lists none."
            raise RefusedError(Reason.CATALOGUE_REFUSED, what)
        self._have_it_last(known, lifetime)
        return str(known["id"])

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

    def state(self, dataset: Did, account: str, rses: Sequence[str]) -> RuleState | None:
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

    def foreign(self, rse: str, ledger: Did) -> tuple[ForeignRule, ...]:
        """List unexpired rules with locks on the buffer."""
        locks = self._server.call(rse, "get_dataset_locks_by_rse", rse, tolerate={"RSENotFound": None}) or ()
        rules = {str(lock["rule_id"]) for lock in locks}
        if self._replicas.met_lock(rse):
            for did in self._replicas.letters(rse, ledger):
                rules |= self._rules_of_file(did)
        found = [self._foreign(rule, rse) for rule in sorted(rules)]
        locking = tuple(rule for rule in found if rule is not None)
        if not locking:
            self._replicas.forget_locks(rse)
        return locking

    def expire(self, rule: str) -> None:
        """End a rule."""
        about, absent = f"rule {rule}", {"RuleNotFound": None}
        found = self._server.call(about, "get_replication_rule", rule, tolerate=absent)
        # Rucio fails on a change of a rule that its judge-cleaner is removing: one that has ended is left alone.
        if found is None or (not found["locked"] and is_past(found["expires_at"])):
            return
        self._server.call(about, "update_replication_rule", rule, {"locked": False, "lifetime": 0}, tolerate=absent)

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
