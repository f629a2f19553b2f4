"""The catalogue: Rucio, as far as buffers need it. Every call may be repeated at any time.

Every call raises UnreachableError when the server does not answer (CATALOGUE_UNREACHABLE) or what it answers cannot be
(CATALOGUE_IMPLAUSIBLE), and RefusedError with the reason CATALOGUE_REFUSED, or the one that it documents, when the
server says no.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

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

__all__ = ["Catalogue"]


class Catalogue(Protocol):
    """What is asked of Rucio, as the operator's service account."""

    def ping(self) -> None:
        """Check that the server answers and takes our credential."""

    def lacks(self, scope: str) -> tuple[str, ...]:
        """Say what the operator's account lacks of what buffers need, each with the command that gives it.

        Parameters
        ----------
        scope
            Of the ledgers.
        """

    def folders(self, hosts: Collection[str]) -> Mapping[str, str | None]:
        """Give for each host the folder of a permanent RSE there, a URL that ends with ``/``; None: no RSE has it.

        Rucio tells the hosts of one RSE at a time, and is asked about some of them in each call, and later again: a
        host that was not found yet is absent.
        """

    # Inputs.

    def resolve(self, did: Did) -> tuple[File, ...]:
        """List the files of a file, dataset or container, sorted, each once; also those that can be no input.

        Such a file has no size, no checksum or no name that is text: ``lack`` says what. One without an adler32 has its
        md5, if there is that.

        Raises
        ------
        RefusedError
            DID_NOT_FOUND: there is none, or it has no file.
        """

    def sources(
        self, files: Collection[File], rse_expression: str, near: str | None = None, trusted: Collection[str] = ()
    ) -> Mapping[Did, tuple[str, ...]]:
        """Give the davs PFNs of each file's AVAILABLE replicas on permanent RSEs of the expression, the nearest first.

        A replica on tape is no source, nor is a file inside an archive: ``barred`` tells of them.

        Distances are Rucio's, from each RSE to ``near``; RSEs without one come last. Volatile RSEs (attribute
        ``vrse_instance``) are never a source. A file without replica is absent.

        Parameters
        ----------
        trusted
            Non-deterministic RSEs that are a source, too. On others whoever registers a replica chooses its path, and
            so which file of the site is read as this one.

        Raises
        ------
        RefusedError
            NO_REPLICA: the expression is invalid or matches nothing.
        """

    def barred(self, files: Collection[Did], rse_expression: str) -> Mapping[Did, Barred]:
        """Say of files without a source which are on tape, or inside an archive, at a permanent RSE of the expression.

        On tape is what is on an RSE of type TAPE, or with the attribute ``staging_required``: Rucio does not tell
        whether such a file is on disk, too.

        Raises
        ------
        RefusedError
            NO_REPLICA: the expression is invalid or matches nothing.
        """

    # The buffer's RSE.

    def ensure_ledger(self, ledger: Did, owner: LedgerOwner) -> None:
        """Create the ledger dataset with its owner in the metadata: the first write for a buffer.

        Raises
        ------
        RefusedError
            FOREIGN_OBJECT: a dataset of that name belongs to somebody else.
        """

    def ledgers(self, scope: str, instance: str) -> Mapping[Did, LedgerOwner]:
        """List the ledger datasets of an operator instance, uncached."""

    def ledgers_of(self, scope: str, record_id: str) -> Mapping[Did, LedgerOwner]:
        """List the ledger datasets of one buffer, whoever's they are, uncached."""

    def take_ledger(self, ledger: Did, of: LedgerOwner, by: LedgerOwner) -> None:
        """Write another owner, with whoever made the RSE, into a ledger's metadata; done already is fine.

        Raises
        ------
        RefusedError
            FOREIGN_OBJECT: it is neither's.
        """

    def buffer(self, rse: str) -> BufferRse | None:
        """Describe a buffer's RSE as it is, with its ``vrse_*`` attributes; None if there is none of that name.

        One that is half made or half removed lacks some of them, has no host, or ports that are 0; ``vrse_instance`` is
        always told.
        """

    def rse(self, rse: BufferRse) -> RseState | None:
        """Compare an RSE with what it must be; None if it does not exist.

        Raises
        ------
        RefusedError
            FOREIGN_OBJECT: it exists without our ``vrse_instance`` attribute or with another's.
        """

    def ensure_rse(self, rse: BufferRse) -> None:
        """Create the RSE and complete its flags, protocols (davs before root) and attributes.

        From birth neither writable nor deletable for others, without distances and limits.

        Raises
        ------
        RefusedError
            FOREIGN_OBJECT: an RSE of that name is somebody else's, or was deleted before.
        """

    def register(self, rse: str, ledger: Did, files: Sequence[File]) -> None:
        """Make file DIDs, AVAILABLE replicas on the buffer and attachments to the ledger, in bulk.

        Raises
        ------
        RefusedError
            CATALOGUE_REFUSED: files are known with another size or checksum (named); all others are registered.
        """

    def registered(self, ledger: Did) -> frozenset[Did]:
        """Give what was ever registered on the buffer: the content of its ledger, several times cheaper than replicas.

        Empty if the ledger is absent.
        """

    def replicas(self, rse: str, ledger: Did) -> Mapping[Did, str]:
        """Give the state letter of every replica on the buffer that the ledger lists, hidden ones too.

        ``A`` available, ``B`` being deleted, and Rucio's others. Empty if the ledger or the RSE is absent.
        """

    # Outputs.

    def destinations(self, rse_expression: str) -> Mapping[str, str]:
        """Say of each RSE of an expression, sorted, why Rucio would not keep outputs there; empty: look closer.

        However many there are, Rucio is asked a few times: what has to be asked of a single one says ``doubt``. Buffers
        (attribute ``vrse_instance``) are among them, and keep nothing.

        Raises
        ------
        RefusedError
            NO_DESTINATION: the expression is invalid or matches none.
        """

    def doubt(self, rse: str) -> str:
        """Say why Rucio would not keep outputs on an RSE, by all that is known of it; empty: it would."""

    def pfns(self, rse: str, files: Collection[Did]) -> Mapping[Did, str]:
        """Give the davs PFN of each file at a destination: where it is written.

        Raises
        ------
        RefusedError
            CATALOGUE_REFUSED: there is no such RSE, no davs protocol to write by, or Rucio cannot compute the path.
        """

    def read_pfns(self, rse: str, files: Collection[Did]) -> Mapping[Did, str]:
        """Give the davs PFN by which Rucio lists each file at a destination, whether it is there or not.

        It is that of ``pfns`` wherever the door that Rucio prefers for reading may be written by, or there is none.

        Raises
        ------
        RefusedError
            As ``pfns``.
        """

    def rooms(self, account: str, rses: Sequence[str]) -> Mapping[str, Room]:
        """Give what the limits of an account leave on each of these RSEs, as Rucio judges a rule.

        These are the account's on the RSE, and its global ones on expressions that have it. Without a limit on the RSE
        an account may lock nothing there, unless it has the attribute ``admin``, or the RSE ``mock``. However many RSEs
        there are, Rucio is asked a few times; what a single one has to say is left to ``narrowed``.
        """

    def narrowed(self, account: str, rse: str, room: Room) -> Room:
        """Give what an RSE's own limit and attributes leave of a room of ``rooms``."""

    def size(self, dataset: Did) -> int:
        """Add up the files of a user's dataset; 0 if it is absent. Unit: bytes."""

    def dataset(self, did: Did) -> DatasetState | None:
        """Look at a user's dataset; None if there is nothing of that name."""

    def maker(self, dataset: Did) -> str | None:
        """Tell which record has made a dataset; None: nobody's, or there is none."""

    def ensure_dataset(self, dataset: Did, account: str, maker: str, *, fresh: bool = False) -> bool:
        """Create a user's dataset, owned by the account, which names its maker from birth; True: it was not there.

        One that exists is taken as it is if it is open and the account's.

        Parameters
        ----------
        maker
            Record id: of several that make the same dataset, one does, and all are told which.
        fresh
            Take none that another one has made.

        Raises
        ------
        RefusedError
            DATASET_REFUSED: it is closed, no dataset, another account's, or not fresh.
        """

    def content(self, dataset: Did) -> tuple[File, ...]:
        """List the files of a user's dataset itself; none if it is absent."""

    def attach(self, dataset: Did, rse: str, files: Sequence[File]) -> None:
        """Register verified copies on a destination and attach them to the user's dataset, 1000 in a transaction.

        Raises
        ------
        RefusedError
            CATALOGUE_REFUSED: closed dataset; or files known with another size or checksum (named), and all others
            are attached.
        """

    def ensure_rule(self, dataset: Did, account: str, rses: Sequence[str], lifetime: int | None) -> str:
        """Hold a dataset on exactly these RSEs; give the rule's id, an existing one's too.

        An existing one is never shortened, and lengthened only if an operator has made it.

        Parameters
        ----------
        lifetime
            Seconds from now; None means for ever.

        Raises
        ------
        RefusedError
            QUOTA_EXCEEDED: the account may not lock so much there. RULE_INSUFFICIENT: there is one that has ended, or
            somebody else's that ends earlier. CATALOGUE_REFUSED: anything else.
        """

    def unsafe(self, files: Collection[File], rses: Sequence[str]) -> tuple[Did, ...]:
        """Give the files that lack an AVAILABLE replica with this checksum on one of the RSEs; asked live."""

    def locked_by(
        self,
        dataset: Did,
        account: str,
        rses: Sequence[str],
        term: Term | None = None,
        files: Collection[Did] = (),
    ) -> str | None:
        """Give the id of the rule of ``ensure_rule`` if all its locks are OK and it lasts, else None.

        Parameters
        ----------
        term
            How long it has to hold; None: it has not ended.
        files
            Where their locks are OK, those of others in the dataset may be as they are.
        """

    def rule_state(self, dataset: Did, account: str, rses: Sequence[str]) -> RuleState | None:
        """Describe the rule of ``ensure_rule``, which may be anybody's; None: there is none."""

    def held_at(self, dataset: Did, account: str) -> frozenset[str]:
        """Give the RSEs where operators' rules of an account hold a dataset."""

    # The drain.

    def standing(self, rse: str, ledger: Did) -> Standing:
        """Give the replicas on the buffer as ``replicas`` does, and which are last copies (invariant I1b)."""

    def foreign_rules(self, rse: str, ledger: Did) -> tuple[ForeignRule, ...]:
        """List the rules with locks on the buffer; one that has ended, too, until Rucio has taken its locks away.

        Rucio does not list the rules of single files by RSE: they are looked for once ``hide`` was refused for one.
        """

    def expire_rule(self, rule: str) -> None:
        """End a rule now; a rule that is gone already is fine."""

    def hide(self, rse: str, files: Collection[Did]) -> None:
        """Set replicas on the buffer BEING_DELETED with an epoch tombstone: nobody is sent to them any more.

        One that is gone already is fine.

        Raises
        ------
        RefusedError
            FOREIGN_RULE: a rule locks one of them; ``foreign_rules`` finds it now.
        """

    def suspend(self, rse: str, files: Collection[Did]) -> None:
        """Set replicas on the buffer TEMPORARY_UNAVAILABLE: hidden, and never reaped.

        One that is gone already is fine.
        """

    def resume(self, rse: str, files: Collection[Did]) -> None:
        """Set suspended replicas AVAILABLE again."""

    def allow_deletion(self, rse: str) -> None:
        """Let Rucio's reaper delete on the buffer."""

    def delete_rse(self, rse: str) -> None:
        """Delete limits, attributes, protocols and the RSE; an absent one is fine.

        Raises
        ------
        UnreachableError
            CATALOGUE_REFUSED: Rucio's counter says that it is not empty yet; its daemons need time.
        """

    def expire_ledger(self, ledger: Did) -> None:
        """Let the undertaker remove the ledger dataset: the last write for a buffer."""

    def ledger_exists(self, ledger: Did) -> bool:
        """Tell whether the ledger dataset is still there."""
