"""What a session is given: the Secret and the ConfigMap in its own namespace, and the rights of its token."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode, urlsafe_b64decode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from volatile_rse.api.agent import DAVS_PORT, ROOT_PORT, STATUS_FOLDER, Listing, listed, status_path
from volatile_rse.api.names import Layout, rse_path, scope_folder
from volatile_rse.api.rserecord import Claim, RSERecordSpec, RSERecordStatus
from volatile_rse.builders.objects import CLAIM, MANAGED, NOT_AFTER, RECORD, hosts_of, name_of, new_object, session_name
from volatile_rse.domain.catalogue import Did, File
from volatile_rse.domain.facts import Piece
from volatile_rse.domain.frozen import distinct
from volatile_rse.domain.naming import kept_name, layout_of
from volatile_rse.domain.rights import read_by
from volatile_rse.domain.settings import Settings

__all__ = [
    "LONGEST_RIGHTS",
    "endpoint",
    "entries_data",
    "kept_scope",
    "kept_secret",
    "lacks_rights",
    "lease_data",
    "leasing",
    "listing_data",
    "listing_of",
    "outbox",
    "publishing",
    "session_config",
    "session_secret",
    "status_data",
    "store_path",
    "token_scope",
]

LONGEST_RIGHTS = 21_000
"""Characters of the rights in a token.

With all else a token is shorter than 30,000 bytes then. XrdHttp drops a client whose header line has not ended after
32 KiB, of which the lines before it take some; by root:// a token may have 64 KiB (docs/decisions/0025).
"""

_LIST_LIMIT = 512 * 1024
"""Bytes of the list of inputs that fit beside the rest in one ConfigMap; a longer one is on the buffer only."""


def outbox(claim: Claim) -> str:
    """Give the session's own directory."""
    return f"/outbox/{claim.uid}"


def publishing(claim: Claim) -> str | None:
    """Give the directory of which files are taken at once, for a session that has such outputs."""
    continuous = any(output.register_ == "Continuous" for output in claim.request.outputs)
    return f"/publish/{claim.uid}" if continuous else None


def leasing(claim: Claim) -> str:
    """Give the directory of the session's leases."""
    return f"/lease/{claim.uid}"


def lease_data(claim: Claim) -> dict[str, str]:
    """Say in the session's ConfigMap where that is."""
    return {"VRSE_LEASE": leasing(claim)}


def store_path(did: Did, layout: Layout = "hash") -> str:
    """Give the path of a file on the buffer, as Rucio computes it."""
    return f"/store/{rse_path(layout, did.scope, did.name)}"


def token_scope(claim: Claim, scopes: Iterable[str]) -> str:
    """Say what a session may do: read the scopes of its files and its status, and what it likes in its directories.

    Never create without modify: XRootD deletes a file whose overwriting it denies.

    Parameters
    ----------
    scopes
        Of the files of its inputs.
    """
    reads = [f"storage.read:{folder}" for folder in _outermost(_folder(scope) for scope in scopes)]
    own = [folder for folder in (outbox(claim), publishing(claim), leasing(claim)) if folder]
    rights = [f"storage.{right}:{folder}" for folder in own for right in ("read", "create", "modify")]
    told = f"storage.read:{status_path(claim.uid).rpartition('/')[0]}"
    return " ".join([*reads, told, *rights])


def kept_scope(scopes: Iterable[str]) -> str:
    """Say what a token opens by which is fetched what is not safe.

    Parameters
    ----------
    scopes
        Of the outputs. Inputs of these could be read by the session, too.
    """
    return " ".join(f"storage.read:{folder}" for folder in _outermost(_folder(scope) for scope in scopes))


def endpoint(settings: Settings, record: RSERecordSpec) -> tuple[str, str]:
    """Give the root and davs URLs inside the cluster."""
    host = hosts_of(settings, name_of(record.record_id, Piece.SERVICE))[0]
    return f"root://{host}:{ROOT_PORT}", f"https://{host}:{DAVS_PORT}"


def listing_of(settings: Settings, record: RSERecordSpec, scopes: Iterable[str]) -> Listing | None:
    """Say where the session finds the list of its inputs on the buffer: among what its token may read.

    Parameters
    ----------
    scopes
        Of the files of its inputs.
    """
    folders = sorted(_folder(scope) for scope in scopes)
    if not folders:
        return None
    path = f"{folders[0]}/.inputs-{record.record_id}.jsonl"
    return Listing(path=path, root=endpoint(settings, record)[0])


def listing_data(listing: Listing) -> dict[str, str]:
    """Say in the session's ConfigMap where that list is."""
    return {"VRSE_INPUTS_URL": f"{listing.root}/{listing.path}"}


def entries_data(record: RSERecordSpec, status: RSERecordStatus) -> dict[str, str]:
    """Say in the session's ConfigMap by which entries it was written; nothing while they are those of the begin."""
    inputs = [[entry.name, entry.digest] for entry in status.inputs or ()]
    begun = not status.removed and not any(entry.added for entry in status.inputs or ())
    publish = publishing(record.claims[0]) if any(entry.added for entry in status.destinations or ()) else None
    if begun and publish is None:
        return {}
    told = json.dumps([sorted(inputs), publish])
    return {"VRSE_ENTRIES": hashlib.sha256(told.encode()).hexdigest()[:16]}


def lacks_rights(record: RSERecordSpec, status: RSERecordStatus, token: str) -> bool:
    """Tell whether a token that was issued lacks what entries have brought that were added since."""
    needed = {right for right in token_scope(record.claims[0], read_by(status)).split() if _is_of_entry(right)}
    try:
        payload = token.split(".")[1]
        claims = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return not needed <= set(str(claims["scope"]).split())
    except (LookupError, ValueError, TypeError):
        return True


def _is_of_entry(right: str) -> bool:
    _, _, folder = right.partition(":")
    return folder.startswith("/publish/") or (folder.startswith("/store/") and not folder.startswith(STATUS_FOLDER))


def status_data(claim: Claim) -> dict[str, str]:
    """Say in the session's ConfigMap where its status file is."""
    return {"VRSE_STATUS": status_path(claim.uid)}


@dataclass(frozen=True, slots=True)
class _Located:
    path: str
    bytes: int
    adler32: str
    md5: str


def _located(file: File, layout: Layout) -> _Located:
    return _Located(store_path(file.did, layout), file.bytes, file.adler32, file.md5)


def session_secret(record: RSERecordSpec, token: str) -> dict[str, Any]:
    """Make the session's Secret, which goes with the VolatileRSE."""
    claim = record.claims[0]
    owner = {"apiVersion": "volatilerse.io/v1alpha1", "kind": "VolatileRSE", "name": claim.name, "uid": claim.uid}
    return _of_session(
        record, "Secret", owner, {"type": "Opaque", "data": {"token": b64encode(token.encode()).decode()}}
    )


def kept_secret(
    record: RSERecordSpec, token: str, authority: str, files: Iterable[Mapping[str, object]], *, not_after: str
) -> dict[str, Any]:
    """Make the Secret by which what is not safe is fetched; it goes with the VolatileRSE.

    Parameters
    ----------
    files
        Each as ``vrse fetch`` wants to know it: path below the outbox, path on the buffer, bytes and adler32.
    """
    claim, public = record.claims[0], record.public
    owner = {"apiVersion": "volatilerse.io/v1alpha1", "kind": "VolatileRSE", "name": claim.name, "uid": claim.uid}
    lines, size, more = list[str](), 0, 0
    for file in files:
        line = json.dumps(file, separators=(",", ":"))
        size += len(line) + 1
        more += size > _LIST_LIMIT
        lines += [line] if size <= _LIST_LIMIT else []
    texts = {
        "token": token,
        "ca.crt": authority,
        "url": "" if public is None else f"https://{public.host}:{public.davs_port}",
        "files.jsonl": "".join(f"{line}\n" for line in lines),
        "more": str(more),
    }
    data = {key: b64encode(text.encode()).decode() for key, text in texts.items()}
    body = _of_session(record, "Secret", owner, {"type": "Opaque", "data": data})
    body["metadata"] |= {"name": kept_name(claim.name), "annotations": {NOT_AFTER: not_after}}
    return body


def session_config(
    settings: Settings,
    record: RSERecordSpec,
    secret: str,
    authorities: Mapping[str, str],
    inputs: Mapping[str, Iterable[File]],
) -> dict[str, Any]:
    """Make the session's ConfigMap, which goes with the Secret.

    Parameters
    ----------
    secret
        UID of the Secret.
    authorities
        File name -> PEM: ``ca.crt``, and the same under its hashed name for clients that want a directory.
    """
    claim = record.claims[0]
    root, davs = endpoint(settings, record)
    layout = layout_of(record.class_snapshot.naming)
    lines = "".join(
        listed(root, str(file.did), entries, _located(file, layout)) for file, entries in distinct(inputs).items()
    )
    data = {
        **authorities,
        "VRSE_RSE": record.rse_name,
        "VRSE_ROOT_URL": root,
        "VRSE_DAVS_URL": davs,
        "VRSE_OUTBOX": outbox(claim),
    }
    if (public := record.public) is not None:
        data["VRSE_PUBLIC_ROOT_URL"] = f"root://{public.host}:{public.root_port}"
        data["VRSE_PUBLIC_DAVS_URL"] = f"https://{public.host}:{public.davs_port}"
    if (publish := publishing(claim)) is not None:
        data["VRSE_PUBLISH"] = publish
    if len(lines) <= _LIST_LIMIT:
        data["inputs.jsonl"] = lines
    owner = {"apiVersion": "v1", "kind": "Secret", "name": session_name(claim.name), "uid": secret}
    return _of_session(record, "ConfigMap", owner, {"data": data})


def _of_session(
    record: RSERecordSpec, kind: str, owner: Mapping[str, str], content: Mapping[str, Any]
) -> dict[str, Any]:
    claim = record.claims[0]
    labels = {**MANAGED, CLAIM: claim.uid, RECORD: record.record_id}
    body = new_object(kind, claim.namespace, session_name(claim.name), labels, content)
    body["metadata"]["ownerReferences"] = [owner]
    return body


def _folder(scope: str) -> str:
    return f"/store/{scope_folder(scope)}"


def _outermost(folders: Iterable[str]) -> list[str]:
    """Leave out what lies in another one: a token must be short, and the right to a folder is one to all below it."""
    known = set(folders)
    return sorted(folder for folder in known if not any(str(above) in known for above in PurePosixPath(folder).parents))
