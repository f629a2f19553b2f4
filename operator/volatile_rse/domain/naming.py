"""What a class calls its RSEs, files and ledgers, and whether these names can be.

The patterns of the preset ``cms`` are those of the published policy package of CMS (github.com/dmwm/CMSRucio,
``src/policy/CMSRucioPolicy/schema.py``: ``RSE``, ``SCOPE``, ``CMS_DATASET``, ``CMS_BLOCK``, ``CMS_LFN`` and
``verify_scope_lfn_match``).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from string import Formatter

from volatile_rse.api.names import Layout
from volatile_rse.api.volatilerseclass import Naming
from volatile_rse.domain.rights import fault_of_scope

__all__ = [
    "drain_name",
    "fault_of_stored",
    "faults_of_naming",
    "faults_of_output",
    "file_template",
    "kept_name",
    "layout_of",
    "ledger_name",
    "record_of",
    "rse_name",
]


@dataclass(frozen=True, slots=True)
class _Preset:
    rse: str
    file: str | None
    """None: as ``names.lfn_name`` calls it."""
    ledger: str
    layout: Layout
    scope: str
    """Pattern of the scopes that outputs may go to."""
    dataset: str
    rse_pattern: str
    ledger_pattern: str


_BLOCK = r"/[a-zA-Z0-9\-_]{1,99}/[a-zA-Z0-9.\-_]{1,199}/[A-Z0-9\-]{1,99}#[a-zA-Z0-9.\-_]{1,100}"
_PRESETS = {
    "generic": _Preset(
        rse="VRSE-{RECORD}", file=None, ledger="vrse-{record}.ledger", layout="hash", scope=".*", dataset=".*",
        rse_pattern=r"[A-Z0-9]+([_-][A-Z0-9]+)*", ledger_pattern=r"[A-Za-z0-9/][A-Za-z0-9.\-_/#]*",
    ),
    "cms": _Preset(
        rse="T3_XX_VRSE_{RECORD}",
        file="/store/{kind}/rucio/{owner}/{record}/{output}/{path}",
        ledger="/vrse/{account}-{record}/USER#{record}",
        layout="identity", scope=r"user\.[a-z0-9-_]{1,20}|group\.[a-z0-9-_]{1,19}", dataset=_BLOCK,
        rse_pattern=r"T[0-3]_[A-Z]{2}((_[A-Za-z0-9]+)+)", ledger_pattern=_BLOCK,
    ),
}  # fmt: skip
_RECORD = "abcdefghi2"
"""Stands for a record where a template is tried."""
_RECORDS = re.compile(r"[a-z2-7]{10}|[A-Z2-7]{10}")
_LITERAL = re.compile(r"[A-Za-z0-9.\-_]+")


def rse_name(naming: Naming, record_id: str) -> str:
    """Name the RSE."""
    return (naming.rse or _PRESETS[naming.preset].rse).format(record=record_id, RECORD=record_id.upper())


def record_of(naming: Naming, rse: str) -> str | None:
    """Tell which record's RSE is called so; None if no record's is."""
    # Overlapping matches, too: a template may have its own letters right before those of the record.
    starts = (_RECORDS.match(rse, start) for start in range(len(rse)))
    records = {found.group().lower() for found in starts if found is not None}
    return next((record for record in sorted(records) if rse_name(naming, record) == rse), None)


def ledger_name(naming: Naming, record_id: str, account: str) -> str:
    """Name the dataset that lists what is registered on the RSE."""
    return (naming.ledger or _PRESETS[naming.preset].ledger).format(record=record_id, account=account)


def file_template(naming: Naming) -> str | None:
    """Give the template of the files' names."""
    return naming.file or _PRESETS[naming.preset].file


def layout_of(naming: Naming) -> Layout:
    """Tell how Rucio computes the path of a file on the RSE."""
    return _PRESETS[naming.preset].layout


_KNOWN: Mapping[str, Collection[str]] = {
    "rse": {"record", "RECORD"},
    "file": {"kind", "owner", "record", "output", "path"},
    "ledger": {"record", "account"},
}
"""Placeholders of each template."""


def faults_of_naming(naming: Naming) -> tuple[str, ...]:
    """Say what is wrong with a class's templates, field by field."""
    preset = _PRESETS[naming.preset]
    return tuple(
        f"spec.naming.{field} {template!r} {wrong}."
        for field, template in _templates(naming)
        if (wrong := _fault(template, _KNOWN[field]) or _misfit(preset, naming, field))
    )


def fault_of_stored(naming: Naming) -> str | None:
    """Say what is no template at all in what the operator has stored of a class, which it has read before."""
    wrong = ((field, template, _fault(template, _KNOWN[field])) for field, template in _templates(naming))
    return next((f"naming.{field} {template!r} {fault}" for field, template, fault in wrong if fault), None)


def _templates(naming: Naming) -> Iterator[tuple[str, str]]:
    for field, template in (("rse", naming.rse), ("file", naming.file), ("ledger", naming.ledger)):
        if template is not None:
            yield field, template


def faults_of_output(naming: Naming, scope: str, dataset: str) -> tuple[str, ...]:
    """Say what the preset does not take of an output, field by field."""
    preset, found = _PRESETS[naming.preset], []
    if not re.fullmatch(preset.scope, scope):
        found.append(f"scope {scope!r} does not match {preset.scope} (naming {naming.preset}).")
    if fault := fault_of_scope(scope):
        found.append(f"scope {scope!r} has no folder of its own on an RSE: its path {fault}.")
    if not re.fullmatch(preset.dataset, dataset):
        found.append(f"dataset {dataset!r} does not match {preset.dataset} (naming {naming.preset}).")
    return tuple(found)


def _fault(template: str, known: Collection[str]) -> str | None:
    if not template.isprintable():
        return "has characters that nobody can see"
    try:
        parts = [(field, spec, conversion) for _, field, spec, conversion in Formatter().parse(template)]
    except ValueError as error:
        return f"is no template ({error})"
    fields = [field for field, _, _ in parts if field is not None]
    if any(spec or conversion for _, spec, conversion in parts) or not set(known).issuperset(fields):
        return f"has placeholders besides {', '.join(f'{{{name}}}' for name in sorted(known))}"
    # Two buffers must never have the same name.
    return None if {"record", "RECORD"}.intersection(fields) else "lacks {record}"


def _misfit(preset: _Preset, naming: Naming, field: str) -> str | None:
    if field == "file":
        return _misfit_of_file(naming)
    # "{{" would be a brace: the patterns take none.
    name = rse_name(naming, _RECORD) if field == "rse" else ledger_name(naming, _RECORD, "account")
    pattern = preset.rse_pattern if field == "rse" else preset.ledger_pattern
    return None if re.fullmatch(pattern, name) else f"gives {name!r}, which does not match {pattern}"


def _misfit_of_file(naming: Naming) -> str | None:
    start, *parts = (naming.file or "").split("/")
    fields = [part for part in parts if part in {"{record}", "{output}", "{path}"}]
    whole = all(part[:1] == "{" or (_LITERAL.fullmatch(part) and part not in {".", ".."}) for part in parts)
    if start or not whole or any(part[:1] == "{" and part.find("}") != len(part) - 1 for part in parts):
        return "is not parts between slashes, each a placeholder or plain characters"
    if fields != ["{record}", "{output}", "{path}"] or parts[-3:] != fields:
        return "does not end with /{record}/{output}/{path}"
    if naming.preset == "cms" and parts[:4] != ["store", "{kind}", "rucio", "{owner}"]:
        return "does not begin with /store/{kind}/rucio/{owner}/, as the policy of CMS wants it"
    return None


def drain_name(public_host: str) -> str:
    """Name the empty server's objects; one for all buffers of a public host."""
    return f"drain-{hashlib.sha256(public_host.encode()).hexdigest()[:10]}"


def kept_name(name: str) -> str:
    """Name the Secret by which what is not safe of a VolatileRSE is fetched."""
    return f"{name}-vrse-kept"
