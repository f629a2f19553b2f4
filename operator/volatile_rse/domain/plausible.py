"""What an agent tells that cannot be: then nothing that it says is believed, and nothing is done by it.

That the bytes of a copy are at their destination is the agent's word; docs/reliability.md says why.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from volatile_rse.api.agent import InputState, OutputState, Report
from volatile_rse.api.schema import LARGEST
from volatile_rse.domain.catalogue import Did, File
from volatile_rse.domain.facts import Record
from volatile_rse.domain.leases import doubt_leases
from volatile_rse.domain.outputs import is_output
from volatile_rse.domain.stage import SEALED

__all__ = [
    "NO_CHECKSUM",
    "counts_unlisted",
    "doubt_file",
    "doubt_inputs",
    "doubt_memory",
    "doubt_names",
    "doubt_outputs",
    "doubt_report",
    "listed_alone",
    "of_list",
    "recounted",
    "staged_file",
    "without_removed",
]


NO_CHECKSUM = "has neither an adler32 nor an md5 checksum"
_ADLER32, _MD5 = re.compile(r"[0-9a-f]{8}", re.ASCII), re.compile(r"[0-9a-f]{32}", re.ASCII)
_SHOWN = 80
"""Characters of what somebody else has written."""


def doubt_report(record: Record, report: Report) -> str:
    """Say what of a report cannot be; empty: nothing."""
    frozen = {entry.name: entry.files for entry in record.status.inputs or ()}
    # Of what could not be read nothing is known.
    for total in report.inputs if record.status.inputs is not None else ():
        if total.name not in frozen:
            return f"it tells of an input {total.name}, which was not asked for"
        if record.status.mended:
            # It still has what was on the list that could not be read.
            continue
        if total.files > frozen[total.name] or total.staged + total.failed > total.files:
            told = f"{total.staged} staged, {total.failed} failed of {total.files}"
            return f"input {total.name} has {frozen[total.name]} files, and it counts {told}"
    if report.copies.verified + report.copies.failed > report.copies.files:
        return f"it counts more copies verified or failed than the {report.copies.files} that there are"
    if why := doubt_leases(record, report):
        return why
    return _doubt_origin(record, ((total.claim, total.name) for total in report.outputs))


def without_removed(record: Record, report: Report) -> Report:
    """Leave out the inputs that were removed while the session lived: an agent goes on telling of them."""
    if not record.status.removed:
        return report
    left = [total for total in report.inputs if total.name not in record.status.removed]
    return report.model_copy(update={"inputs": left})


def of_list(frozen: Mapping[str, Sequence[File]], states: Iterable[InputState]) -> tuple[InputState, ...]:
    """Leave out the files of inputs that were removed."""
    dids = {file.did for listed in frozen.values() for file in listed}
    return tuple(state for state in states if Did(state.scope, state.name) in dids)


def counts_unlisted(record: Record, report: Report) -> bool:
    """Tell whether it counts inputs of a list that could not be read, besides those that were resolved anew."""
    wanted = {entry.name: entry.files - entry.unusable for entry in record.status.inputs or ()}
    return bool(record.status.mended) and any(
        total.files > wanted.get(total.name, total.files) for total in report.inputs
    )


def listed_alone(frozen: Mapping[str, Sequence[File]], states: Iterable[InputState]) -> tuple[InputState, ...]:
    """Leave out inputs that are not on the frozen list; without a list nothing is known."""
    files = {file for listed in frozen.values() for file in listed}
    dids = {file.did for file in files}

    def is_listed(state: InputState) -> bool:
        return staged_file(state) in files if state.state == "staged" else Did(state.scope, state.name) in dids

    return tuple(state for state in states if not files or is_listed(state))


def recounted(report: Report, frozen: Mapping[str, Sequence[File]], states: Iterable[InputState]) -> Report:
    """Count the inputs by the frozen list; of one without a list nothing is there."""
    told = {Did(state.scope, state.name): state for state in states}
    totals = []
    for total in report.inputs:
        found = [told[file.did] for file in frozen.get(total.name, ()) if file.did in told]
        staged = [state.bytes for state in found if state.state == "staged"]
        counts = {
            "files": len(found),
            "staged": len(staged),
            "failed": sum(state.state == "failed" for state in found),
            "bytes": sum(state.bytes for state in found),
            "staged_bytes": sum(staged),
        }
        totals.append(total.model_copy(update=counts))
    return report.model_copy(update={"inputs": totals})


def doubt_names(files: Iterable[File]) -> str:
    """Say which file of the catalogue has no name: an answer that holds one is none. Empty: all have one."""
    for file in files:
        if not isinstance(file.did.scope, str) or not isinstance(file.did.name, str):
            return f"{str(file.did)[:_SHOWN]!r} is no name of a file"
    return ""


def doubt_file(file: File) -> str:
    """Say why a file of the catalogue can be no input, since anybody may register anything there; empty: it can."""
    if file.lack:
        return file.lack
    if isinstance(file.bytes, bool) or not isinstance(file.bytes, int) or not 0 <= file.bytes <= LARGEST:
        return f"has {str(file.bytes)[:_SHOWN]} bytes"
    if file.adler32 and not (isinstance(file.adler32, str) and _ADLER32.fullmatch(file.adler32)):
        return f"has the adler32 {str(file.adler32)[:_SHOWN]!r}"
    if file.md5 and not (isinstance(file.md5, str) and _MD5.fullmatch(file.md5)):
        return f"has the md5 {str(file.md5)[:_SHOWN]!r}"
    return "" if file.adler32 or file.md5 else NO_CHECKSUM


def doubt_inputs(frozen: Mapping[str, Sequence[File]], states: Iterable[InputState]) -> str:
    """Say which file that is staged is none of the frozen list; without a list nothing is known."""
    known = {file for files in frozen.values() for file in files}
    for state in states if known else ():
        if state.state == "staged" and staged_file(state) not in known:
            return f"it has staged {state.scope}:{state.name}, which is not on the list with this size and checksum"
    return ""


def staged_file(state: InputState) -> File:
    """Give an input as the catalogue has it: what else the agent has found out of it is no part of that."""
    adler32 = "" if state.md5 else state.adler32
    return File(Did(state.scope, state.name), state.bytes, adler32 or "", state.md5 or "")


def doubt_outputs(record: Record, states: Sequence[OutputState]) -> str:
    """Say which file cannot be one of this session; what is no output's is only shown, never used."""
    if why := _doubt_origin(record, ((state.claim, state.output) for state in states)):
        return why
    scopes = {output.name: output.scope for output in record.spec.claims[0].request.outputs}
    seen: set[Did] = set()
    for state in states:
        if state.state != "sealed":
            continue
        if state.output is None or state.name is None or state.adler32 is None:
            return f"it has sealed {state.path} without output, name or checksum"
        did = Did(state.scope or "", state.name)
        if did.scope != scopes[state.output] or not is_output(record, did):
            return f"it has sealed {state.path} as {did}, which is no name of output {state.output} of this record"
        if did in seen:
            return f"it has sealed two files as {did}"
        seen.add(did)
    return ""


def doubt_memory(record: Record, volume: str, states: Iterable[OutputState]) -> str:
    """Say whether files are missing that the record knows of; another volume than the record's has lost what it had.

    After the inventory the record counts the files at risk, and once they are safe, those that were kept. A directory
    that could not be read was counted as one, and is skipped once it can be.
    """
    if SEALED not in record.status.steps:
        # A count that is left then is of the volume that was lost after its inventory.
        return ""
    known = record.status.files_at_risk if record.status.outcome is None else record.status.outcome.files
    told = sum(state.output is not None and state.state in {"sealed", "failed", "found", "skipped"} for state in states)
    if volume != record.status.volume or told >= (known or 0):
        return ""
    return f"the record knows of {known} output files on its volume, and it tells of {told}"


def _doubt_origin(record: Record, origins: Iterable[tuple[str, str | None]]) -> str:
    claim = record.spec.claims[0]
    names = {None, *(output.name for output in claim.request.outputs)}
    for uid, output in origins:
        if uid != claim.uid:
            return f"it tells of files of session {uid}, and its session is {claim.uid}"
        if output not in names:
            return f"it tells of an output {output}, which was not asked for"
    return ""
