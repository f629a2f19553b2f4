"""Datasets in Rucio: what they hold, whose they are, and what is put into them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from volatile_rse.adapters.rucio.answers import checksum_of, input_of, is_without_adler32, size_of
from volatile_rse.adapters.rucio.marks import RECORD
from volatile_rse.adapters.rucio.server import RucioServer, parts
from volatile_rse.adapters.rucio.shapes import is_text
from volatile_rse.api.conditions import Reason
from volatile_rse.domain.catalogue import DatasetState, Did, File
from volatile_rse.ports.errors import RefusedError, UnreachableError

__all__ = ["RucioDatasets"]

_ABOUT_FILES: Mapping[str, None] = dict.fromkeys(("FileConsistencyMismatch", "UnsupportedOperation", "InvalidObject"))
"""How Rucio refuses all files of a call because of one: known otherwise, LOST, or of a name that it does not take."""


class RucioDatasets:
    """The datasets of one server, users' and ledgers."""

    def __init__(self, server: RucioServer) -> None:
        self._server = server

    def resolve(self, did: Did) -> tuple[File, ...]:
        """List the files of a DID."""
        found = self._server.call(
            str(did),
            "list_files",
            scope=did.scope,
            name=did.name,
            tolerate={"DataIdentifierNotFound": Reason.DID_NOT_FOUND},
        )
        if not found:
            raise RefusedError(Reason.DID_NOT_FOUND, f"{did} does not exist in Rucio, or has no files.")
        others = self._other_checksums([entry for entry in found if is_without_adler32(entry)])
        return tuple(sorted({input_of(entry, others.get(_did(entry))) for entry in found}))

    def _other_checksums(self, entries: Sequence[Mapping[str, Any]]) -> Mapping[Did, object]:
        """Ask for what the listing does not have: it tells of no checksum but adler32."""
        found: dict[Did, object] = {}
        for part in parts(dict.fromkeys(map(_did, entries))):
            dids = [{"scope": did.scope, "name": did.name} for did in part]
            told = self._server.call(f"{len(part)} files", "get_metadata_bulk", dids)
            found |= {_did(entry): entry.get("md5") for entry in told}
            if silent := set(part) - found.keys():
                # It listed them a moment ago.
                what = f"Rucio tells nothing of {len(silent)} files that it lists, for example {min(silent)}."
                raise UnreachableError(Reason.CATALOGUE_IMPLAUSIBLE, what)
        return found

    def get(self, did: Did) -> dict[str, Any] | None:
        """Describe what stands under a name as Rucio does; None: nothing."""
        absent = {"DataIdentifierNotFound": None}
        found: dict[str, Any] | None = self._server.call(str(did), "get_did", did.scope, did.name, tolerate=absent)
        return found

    def state(self, did: Did) -> DatasetState | None:
        """Look at a user's dataset."""
        known = self.get(did)
        if known is None:
            return None
        is_dataset = known["type"] == "DATASET"
        return DatasetState(known["account"], is_dataset=is_dataset, open=is_dataset and bool(known.get("open", True)))

    def metadata(self, did: Did) -> Mapping[str, Any]:
        """Give what was written about it, nothing if it is absent."""
        absent = {"DataIdentifierNotFound": None}
        return self._server.call(str(did), "get_metadata", did.scope, did.name, plugin="JSON", tolerate=absent) or {}

    def maker(self, dataset: Did) -> str | None:
        """Tell which record has made it."""
        record = self.metadata(dataset).get(RECORD)
        return None if record is None else ascii(record) if not is_text(record) else str(record)

    def ensure(self, dataset: Did, account: str, maker: str, *, fresh: bool = False) -> bool:
        """Create a user's dataset."""
        body: dict[str, Any] = {"scope": dataset.scope, "name": dataset.name, "type": "DATASET", "account": account}
        # In the same transaction: of several that make it at a time, all see whose it is.
        body["meta"] = {RECORD: maker}
        exists = {"DataIdentifierAlreadyExists": None}
        if self._server.call(str(dataset), "add_dids", [body], tolerate=exists) is not None:
            return True
        known = self.state(dataset)
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
            File(Did(entry["scope"], entry["name"]), size_of(entry), checksum_of(entry))
            for entry in found or ()
            if entry["type"] == "FILE"
        )

    def size(self, dataset: Did) -> int:
        """Add up the files of a dataset, of an open one, too."""
        absent = {"DataIdentifierNotFound": None}
        found = self._server.call(str(dataset), "get_did", dataset.scope, dataset.name, "FILE", tolerate=absent)
        return int((found or {}).get("bytes") or 0)

    def names(self, dataset: Did) -> frozenset[Did]:
        """Give the names of what a dataset holds."""
        absent = {"DataIdentifierNotFound": None}
        found = self._server.call(str(dataset), "list_content", dataset.scope, dataset.name, tolerate=absent)
        return frozenset(Did(entry["scope"], entry["name"]) for entry in found or ())

    def attach(self, collection: Did, rse: str, files: Sequence[File]) -> None:
        """Register files on an RSE and attach them: all that can be, before a refused one is named."""
        refused: list[RefusedError] = []
        for part in parts(files):
            refused += self._attach_part(collection, rse, part)
        if refused:
            more = f" So are {len(refused) - 1} others." if len(refused) > 1 else ""
            raise RefusedError(Reason.CATALOGUE_REFUSED, f"{refused[0].what}{more}")

    def _attach_part(self, collection: Did, rse: str, part: Sequence[File]) -> list[RefusedError]:
        """Attach what can be: Rucio takes all or nothing, so halves are tried until the refused files stand alone."""
        body = [{"scope": collection.scope, "name": collection.name, "rse": rse, "dids": list(map(_told, part))}]
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
        known = self.state(collection)
        return known is not None and known.is_dataset and known.open


def _did(entry: Mapping[str, Any]) -> Did:
    return Did(entry["scope"], entry["name"])


def _told(file: File) -> dict[str, object]:
    """Tell of a file what Rucio has of it: a checksum that it has not would be one that differs."""
    told: dict[str, object] = {"scope": file.did.scope, "name": file.did.name, "bytes": file.bytes}
    return told | {kind: sum_ for kind, sum_ in (("adler32", file.adler32), ("md5", file.md5)) if sum_}
