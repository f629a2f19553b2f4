"""The catalogue through the stock Rucio client.

The order and the choice of calls rest on measurements against Rucio 41.5.1: one call of ``attach_dids_to_dids`` makes
DIDs, replicas and attachments in one transaction and may be repeated; state ``B`` hides a replica at once and gives it
the epoch tombstone that a plain reaper takes; expressions and attributes are cached for minutes, single RSEs are not.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from volatile_rse.adapters.reading import told_apart
from volatile_rse.adapters.rucio.accounts import RucioAccounts
from volatile_rse.adapters.rucio.answers import leads_somewhere
from volatile_rse.adapters.rucio.buffers import RucioBuffers
from volatile_rse.adapters.rucio.datasets import RucioDatasets
from volatile_rse.adapters.rucio.ledgers import RucioLedgers
from volatile_rse.adapters.rucio.quotas import RucioQuotas
from volatile_rse.adapters.rucio.replicas import RucioReplicas
from volatile_rse.adapters.rucio.rses import RucioRses
from volatile_rse.adapters.rucio.rules import RucioRules
from volatile_rse.adapters.rucio.server import RucioServer
from volatile_rse.api.conditions import Reason
from volatile_rse.domain.catalogue import (
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
)
from volatile_rse.ports.catalogue import Catalogue
from volatile_rse.ports.errors import RefusedError, UnreachableError

__all__ = ["RucioCatalogue"]


@told_apart(Catalogue, Reason.CATALOGUE_IMPLAUSIBLE, "Rucio")
class RucioCatalogue(Catalogue):
    """One Rucio server, as one account."""

    def __init__(self, server: RucioServer) -> None:
        self._server = server
        self._rses = RucioRses(server)
        self._buffers = RucioBuffers(server, self._rses)
        self._datasets = RucioDatasets(server)
        self._ledgers = RucioLedgers(server, self._datasets)
        self._replicas = RucioReplicas(server, self._rses)
        self._quotas = RucioQuotas(server, self._rses)
        self._accounts = RucioAccounts(server)
        self._rules = RucioRules(server, self._replicas)

    def ping(self) -> None:
        """Check that the server answers and takes our credential."""
        self._server.call("the server", "whoami")

    def lacks(self, scope: str) -> tuple[str, ...]:
        """Say what the operator's account lacks."""
        return self._accounts.lacks(scope)

    def folders(self, hosts: Collection[str]) -> Mapping[str, str | None]:
        """Give for each host the folder of a permanent RSE there."""
        return self._rses.folders(hosts)

    # Inputs.

    def resolve(self, did: Did) -> tuple[File, ...]:
        """List the files of a DID."""
        return self._datasets.resolve(did)

    def sources(
        self, files: Collection[File], rse_expression: str, near: str | None = None, trusted: Collection[str] = ()
    ) -> Mapping[Did, tuple[str, ...]]:
        """Give the davs PFNs of AVAILABLE replicas on permanent RSEs."""
        return self._replicas.sources(files, rse_expression, near, trusted)

    def barred(self, files: Collection[Did], rse_expression: str) -> Mapping[Did, Barred]:
        """Say which files are on tape, or inside an archive."""
        return self._replicas.barred(files, rse_expression)

    # The buffer's RSE.

    def ensure_ledger(self, ledger: Did, owner: LedgerOwner) -> None:
        """Create the ledger dataset with its owner."""
        self._ledgers.ensure(ledger, owner)

    def ledgers(self, scope: str, instance: str) -> Mapping[Did, LedgerOwner]:
        """List the ledger datasets of an instance."""
        return self._ledgers.of_instance(scope, instance)

    def ledgers_of(self, scope: str, record_id: str) -> Mapping[Did, LedgerOwner]:
        """List the ledger datasets of one buffer."""
        return self._ledgers.of_record(scope, record_id)

    def ledger_exists(self, ledger: Did) -> bool:
        """Tell whether the ledger is there."""
        return self._ledgers.exists(ledger)

    def take_ledger(self, ledger: Did, of: LedgerOwner, by: LedgerOwner) -> None:
        """Write another owner into a ledger's metadata."""
        self._ledgers.take(ledger, of, by)

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
        self._datasets.attach(ledger, rse, files)

    def registered(self, ledger: Did) -> frozenset[Did]:
        """Give the content of the ledger."""
        return self._datasets.names(ledger)

    def replicas(self, rse: str, ledger: Did) -> Mapping[Did, str]:
        """Give the states of the ledger's replicas on the buffer."""
        return self._replicas.letters(rse, ledger)

    # Outputs.

    def destinations(self, rse_expression: str) -> Mapping[str, str]:
        """Say of each RSE of an expression why outputs cannot be kept there, as far as that is told of all at once."""
        return self._rses.destinations(rse_expression)

    def doubt(self, rse: str) -> str:
        """Say why outputs cannot be kept on one of them."""
        return self._rses.doubt(rse)

    def pfns(self, rse: str, files: Collection[Did]) -> Mapping[Did, str]:
        """Compute the PFNs that copies are written by."""
        return self._judged(rse, files, self._rses.pfns(rse, files))

    def read_pfns(self, rse: str, files: Collection[Did]) -> Mapping[Did, str]:
        """Compute the PFNs by which Rucio lists replicas."""
        return self._judged(rse, files, self._rses.pfns(rse, files, reads=True))

    def _judged(self, rse: str, files: Collection[Did], found: Mapping[Did, str]) -> Mapping[Did, str]:
        if wrong := sorted(ascii(pfn) for pfn in found.values() if not leads_somewhere(pfn))[:1]:
            what = f"The davs protocol of RSE {rse} gives {wrong[0]}, which is no URL that can be asked."
            raise RefusedError(Reason.CATALOGUE_REFUSED, what)
        if len(found) < len(set(files)):
            what = f"Rucio gives {len(found)} PFNs on RSE {rse} for {len(set(files))} files."
            raise UnreachableError(Reason.CATALOGUE_IMPLAUSIBLE, what)
        return found

    def rooms(self, account: str, rses: Sequence[str]) -> Mapping[str, Room]:
        """Give what the limits of an account leave."""
        return self._quotas.rooms(account, rses)

    def narrowed(self, account: str, rse: str, room: Room) -> Room:
        """Give what the RSE leaves of it."""
        return self._quotas.narrowed(account, rse, room)

    def size(self, dataset: Did) -> int:
        """Add up the files of a dataset."""
        return self._datasets.size(dataset)

    def dataset(self, did: Did) -> DatasetState | None:
        """Look at a user's dataset."""
        return self._datasets.state(did)

    def maker(self, dataset: Did) -> str | None:
        """Tell which record has made it."""
        return self._datasets.maker(dataset)

    def ensure_dataset(self, dataset: Did, account: str, maker: str, *, fresh: bool = False) -> bool:
        """Create a user's dataset."""
        return self._datasets.ensure(dataset, account, maker, fresh=fresh)

    def content(self, dataset: Did) -> tuple[File, ...]:
        """List the files of a dataset."""
        return self._datasets.content(dataset)

    def attach(self, dataset: Did, rse: str, files: Sequence[File]) -> None:
        """Register copies and attach them."""
        self._datasets.attach(dataset, rse, files)

    def ensure_rule(self, dataset: Did, account: str, rses: Sequence[str], lifetime: int | None) -> str:
        """Hold a dataset on RSEs."""
        return self._rules.ensure(dataset, account, rses, lifetime)

    def unsafe(self, files: Collection[File], rses: Sequence[str]) -> tuple[Did, ...]:
        """Give the files that are not at their destination."""
        return self._replicas.unsafe(files, rses)

    def locked_by(
        self,
        dataset: Did,
        account: str,
        rses: Sequence[str],
        term: Term | None = None,
        files: Collection[Did] = (),
    ) -> str | None:
        """Give the rule if all its locks, or all those of the files, are OK and it lasts."""
        return self._rules.locked_by(dataset, account, rses, term, files)

    def rule_state(self, dataset: Did, account: str, rses: Sequence[str]) -> RuleState | None:
        """Describe the rule."""
        return self._rules.state(dataset, account, rses)

    def held_at(self, dataset: Did, account: str) -> frozenset[str]:
        """Give the RSEs of our rules."""
        return self._rules.held_at(dataset, account)

    # The drain.

    def standing(self, rse: str, ledger: Did) -> Standing:
        """Give replicas, and which have no AVAILABLE one on a permanent RSE."""
        return self._replicas.standing(rse, ledger)

    def foreign_rules(self, rse: str, ledger: Did) -> tuple[ForeignRule, ...]:
        """List unexpired rules with locks on the buffer."""
        return self._rules.foreign(rse, ledger)

    def expire_rule(self, rule: str) -> None:
        """End a rule."""
        self._rules.expire(rule)

    def hide(self, rse: str, files: Collection[Did]) -> None:
        """Hide replicas, unless a rule locks one."""
        self._replicas.hide(rse, files)

    def suspend(self, rse: str, files: Collection[Did]) -> None:
        """Hide replicas whose bytes are lost; unlike ``hide``, without a tombstone."""
        self._replicas.suspend(rse, files)

    def resume(self, rse: str, files: Collection[Did]) -> None:
        """Show replicas whose bytes are back."""
        self._replicas.resume(rse, files)

    def allow_deletion(self, rse: str) -> None:
        """Let the reaper work."""
        self._buffers.allow_deletion(rse)

    def delete_rse(self, rse: str) -> None:
        """Deregister the RSE."""
        self._buffers.delete(rse)
        self._replicas.forget_locks(rse)

    def expire_ledger(self, ledger: Did) -> None:
        """Let the ledger go."""
        self._ledgers.expire(ledger)
