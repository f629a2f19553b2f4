"""What Rucio, the sites and the cluster say themselves of a buffer and its outputs; the operator is not asked."""

from __future__ import annotations

import json
import subprocess
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from testbed import cluster, grid, installation
from testbed.layout import DATABASE
from testbed.progress import StepError

__all__ = ["Kept", "download", "kept", "on_rse", "remains", "rows", "rules"]

_READ = 16 << 20
"""Bytes of the longest file that is read: XRootD hangs at times when it is asked for the checksums of many."""
_SESSION = requests.Session()
_ROWS = r"""
select 'rses', count(*) from dev.rses where rse = :'rse' and deleted;
select format('select %L, count(*) from dev.%I where %I in (select id from dev.rses where rse = %L)',
              table_name, table_name, column_name, :'rse')
  from information_schema.columns
  where table_schema = 'dev' and column_name in ('rse_id', 'src_rse_id', 'dest_rse_id', 'source_rse_id') \gexec
"""
"""Whatever tables there are: each line of the second answer is executed, too."""
_NAMESPACED = "pods,jobs,secrets,configmaps,services,persistentvolumeclaims"


@dataclass(frozen=True, slots=True)
class Kept:
    """One file of an output dataset."""

    name: str
    bytes: int
    adler32: str
    """By Rucio."""
    states: Mapping[str, str]
    """RSE -> state of the replica, by Rucio."""
    pfn: str
    """At the site."""
    site_bytes: int
    site_adler32: str
    """Read by the site from its disk."""


def kept(scope: str, dataset: str, site: str, record_id: str = "") -> list[Kept]:
    """List a dataset's files, those of one buffer if its record is named.

    Parameters
    ----------
    site
        RSE whose own words are asked for.
    """
    client = grid.client(grid.ALICE)
    entries = list(client.list_replicas([{"scope": scope, "name": dataset}], all_states=True))
    return [_kept(entry, site) for entry in sorted(entries, key=_name) if f".{record_id}" in entry["name"]]


def rows(rse: str) -> dict[str, int]:
    """Count the rows of Rucio's own database that belong to an RSE, by their table."""
    ask = f'PGPASSWORD="$PASSWORD" exec /opt/postgresql/psql -qAt -h {DATABASE} -U rucio -v rse={rse} postgres'
    argv = ["docker", "exec", "-i", DATABASE, "sh", "-c", ask]
    done = subprocess.run(argv, input=_ROWS, capture_output=True, text=True, check=True)
    found: Counter[str] = Counter()
    for line in done.stdout.splitlines():
        table, _, number = line.partition("|")
        found[table] += int(number)
    return dict(+found)


def rules(scope: str, dataset: str) -> list[dict[str, Any]]:
    """List the rules that hold a dataset."""
    return list(grid.client(grid.ALICE).list_did_rules(scope, dataset))


def on_rse(rse: str, datasets: Iterable[str]) -> list[str]:
    """List replicas and rules that files of these datasets (``scope:name``) still have on an RSE.

    Unlike the ledger, which goes with its buffer, these files stay: what they say tells something afterwards, too.
    """
    root, found = grid.client("root"), []
    for dataset in datasets:
        scope, name = dataset.split(":")
        for entry in root.list_replicas([{"scope": scope, "name": name}], all_states=True):
            file = f"{entry['scope']}:{entry['name']}"
            if rse in entry["rses"] or rse in entry.get("states", {}):
                found.append(f"replica of {file} on {rse}")
            held = root.list_associated_rules_for_file(entry["scope"], entry["name"])
            found += [f"rule {rule['id']} of {file} on {rse}" for rule in held if rule["rse_expression"] == rse]
    return found


def download(file: Kept, folder: Path) -> Path:
    """Fetch a file from its site."""
    answer = _ask("GET", file.pfn)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / file.name
    path.write_bytes(answer.content)
    return path


def remains(record: Mapping[str, Any]) -> list[str]:
    """List all that still exists of a buffer: RSE, replicas, ledger, and objects of the cluster."""
    spec = record["spec"]
    root = grid.client("root")
    found = [f"RSE {spec['rseName']}" for entry in root.list_rses() if entry["rse"] == spec["rseName"]]
    scope, ledger = spec["ledger"].split(":")
    if list(root.list_dids(scope, [{"name": ledger}], did_type="dataset")):
        found.append(f"ledger {spec['ledger']}")
        replicas = root.list_replicas([{"scope": scope, "name": ledger}], all_states=True)
        found += [
            f"replica of {entry['scope']}:{entry['name']}" for entry in replicas if spec["rseName"] in entry["rses"]
        ]
    selector = f"volatilerse.io/record={spec['recordId']}"
    for namespace in (installation.BUFFERS, spec["claims"][0]["namespace"]):
        found += cluster.kubectl("-n", namespace, "get", _NAMESPACED, "-l", selector, "-o", "name").split()
    volumes = json.loads(cluster.kubectl("get", "persistentvolumes", "-o", "json"))["items"]
    name = record["metadata"]["name"]
    found += [f"PersistentVolume {body['metadata']['name']}" for body in volumes if _claim(body) == name]
    return found


def _claim(volume: Mapping[str, Any]) -> str | None:
    claim: str | None = (volume["spec"].get("claimRef") or {}).get("name")
    return claim


def _name(entry: Mapping[str, Any]) -> str:
    return str(entry["name"])


def _kept(entry: Mapping[str, Any], site: str) -> Kept:
    pfn = next(iter(entry["rses"].get(site, ())), "")
    size, digest = -1, ""
    if pfn and entry["bytes"] <= _READ:
        content = _ask("GET", pfn).content
        size, digest = len(content), f"{zlib.adler32(content):08x}"
    elif pfn:
        size, digest = _told(pfn)
    return Kept(entry["name"], entry["bytes"], entry["adler32"], entry["states"], pfn, size, digest)


def _told(pfn: str) -> tuple[int, str]:
    """Have a site say size and checksum of a large file; read it where it knows none."""
    answer = _ask("HEAD", pfn, {"Want-Digest": "adler32"})
    if "Digest" in answer.headers:
        return int(answer.headers["Content-Length"]), answer.headers["Digest"].removeprefix("adler32=").rjust(8, "0")
    content = _ask("GET", pfn).content
    return len(content), f"{zlib.adler32(content):08x}"


def _ask(method: str, pfn: str, headers: Mapping[str, str] | None = None) -> requests.Response:
    """Speak to a site through the port that it has on this machine, with alice's token."""
    facts, parts = grid.grid(), urlsplit(pfn)
    outside = next(
        (facts.davs_outside[rse] for rse, url in facts.davs.items() if urlsplit(url).hostname == parts.hostname), None
    )
    if outside is None:
        message = f"{pfn} is at no site of the testbed"
        raise StepError(message)
    bearer = {"Authorization": f"Bearer {facts.tokens[grid.ALICE]}", **(headers or {})}
    answer = _SESSION.request(method, outside + parts.path, headers=bearer, verify=facts.bundle, timeout=60)
    if not answer.ok:
        message = f"{method} {pfn} gave {answer.status_code}: {answer.text[:200]}"
        raise StepError(message)
    return answer
