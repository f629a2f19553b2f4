"""Ledgers: a dataset for each buffer, which tells whose it is before anything else in Rucio does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from volatile_rse.adapters.rucio.datasets import RucioDatasets
from volatile_rse.adapters.rucio.marks import MAKER, MARK, RECORD
from volatile_rse.adapters.rucio.server import RucioServer
from volatile_rse.adapters.rucio.shapes import is_text
from volatile_rse.api.conditions import Reason
from volatile_rse.domain.catalogue import Did, LedgerOwner
from volatile_rse.ports.errors import RefusedError

__all__ = ["RucioLedgers"]


class RucioLedgers:
    """The ledgers of buffers on one server."""

    def __init__(self, server: RucioServer, datasets: RucioDatasets) -> None:
        self._server = server
        self._datasets = datasets

    def ensure(self, ledger: Did, owner: LedgerOwner) -> None:
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

    def of_instance(self, scope: str, instance: str) -> Mapping[Did, LedgerOwner]:
        """List the ledger datasets of an instance."""
        return self._with(scope, MARK, instance)

    def of_record(self, scope: str, record_id: str) -> Mapping[Did, LedgerOwner]:
        """List the ledger datasets of one buffer."""
        return self._with(scope, RECORD, record_id)

    def exists(self, ledger: Did) -> bool:
        """Tell whether the ledger is there."""
        return self._datasets.get(ledger) is not None

    def take(self, ledger: Did, of: LedgerOwner, by: LedgerOwner) -> None:
        """Write another owner into a ledger's metadata."""
        owner = self._owner(ledger)
        if owner not in {of, by}:
            raise RefusedError(Reason.FOREIGN_OBJECT, f"Dataset {ledger} in Rucio belongs to {owner}, not to {of}.")
        if owner == of and of != by:
            # In one call: a ledger that is another's by now always tells whose mark its RSE bears.
            meta = {MARK: by.instance, MAKER: by.maker}
            self._server.call(str(ledger), "set_metadata_bulk", ledger.scope, ledger.name, meta)

    def expire(self, ledger: Did) -> None:
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

    def _with(self, scope: str, key: str, value: str) -> Mapping[Did, LedgerOwner]:
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
        meta = self._datasets.metadata(ledger)
        told: list[Any] = [meta.get(MARK), meta.get(RECORD, ""), meta.get(MAKER, "")]
        # What is no text no operator has written.
        return LedgerOwner(*told) if all(map(is_text, told)) else None
