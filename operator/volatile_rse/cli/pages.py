"""What is told of VolatileRSEs: bodies of the API server -> pages, as data and as plain text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from volatile_rse.api.conditions import REMEDIES, ConditionType, Reason
from volatile_rse.api.text import visible
from volatile_rse.domain.times import is_time, when

__all__ = ["Bar", "Note", "Page", "condition_of", "line_of", "page_of", "plain", "sized", "table_of"]

Object = Mapping[str, Any]

_OVER = {"Ending", "Completed", "Quarantined", "Failed"}
"""Phases in which no time of the session is left."""
_QUIET = {
    Reason.SUCCEEDED,
    Reason.NOT_NEEDED,
    Reason.NOT_DELETING,
    Reason.NOT_STALLED,
    Reason.USABLE,
    Reason.SESSION_RUNNING,
}
"""Reasons that nobody has to hear of."""
_ORDER = (
    ConditionType.STALLED,
    ConditionType.DELETING,
    ConditionType.READY,
    ConditionType.USABLE,
    ConditionType.INPUTS_STAGED,
    ConditionType.SESSION_ACTIVE,
    ConditionType.OUTPUTS_SAFE,
    ConditionType.STORAGE_READY,
    ConditionType.RSE_REGISTERED,
    ConditionType.CREDENTIALS_VALID,
)
_NOT_TAKEN = {"Pending", "Refused"}
"""States of entries that were added while the session lives."""
_MUST_ACT = " must act: "
_NO_OPERATOR = (
    "No operator has looked at this yet. If it stays so, ADMIN must act: see that the operator runs "
    "(kubectl get pods -n volatile-rse)."
)
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_STEP = 1024
_TEN = 10


@dataclass(frozen=True, slots=True)
class Bar:
    """How far something is, in files."""

    name: str
    done: int
    total: int
    said: str
    """The same in words, and more."""
    wrong: bool = False
    """Whether files failed."""


@dataclass(frozen=True, slots=True)
class Note:
    """What one or more conditions say."""

    types: tuple[str, ...]
    reason: str
    message: str
    action: str = ""
    """Who must act, and what to do; empty: nobody."""


@dataclass(frozen=True, slots=True)
class Page:
    """One VolatileRSE."""

    name: str
    phase: str
    about: tuple[str, ...]
    inputs: tuple[Bar, ...]
    outputs: tuple[Bar, ...]
    unmatched: str
    endpoints: tuple[str, ...]
    left: str
    """Of the session's time; empty: that is not known, or it is over."""
    notes: tuple[Note, ...]


def page_of(body: Object, now: datetime) -> Page:
    """Make the page of one VolatileRSE."""
    metadata, spec, status = body["metadata"], body.get("spec") or {}, body.get("status") or {}
    phase = str(status.get("phase") or "Pending")
    return Page(
        name=f"{metadata.get('namespace')}/{metadata['name']}",
        phase=phase,
        about=tuple(_about(spec, status)),
        inputs=tuple(_inputs(spec, status)),
        outputs=tuple(_outputs(spec, status)),
        unmatched=_unmatched(status),
        endpoints=tuple(str(entry.get("url")) for entry in status.get("endpoints") or () if phase not in _OVER),
        left=_left(status, phase, now),
        notes=tuple(_notes(body)),
    )


def plain(page: Page) -> str:
    """Write a page without colours, bars and cut lines."""
    return "".join(f"{visible(line)}\n" for line in _lines(page))


def line_of(body: Object) -> str:
    """Tell in one line how far a VolatileRSE is."""
    metadata, status = body["metadata"], body.get("status") or {}
    parts = [str(status.get("phase") or "Pending")]
    if inputs := status.get("inputs"):
        staged, files = _sum(inputs, "staged"), _sum(inputs, "files")
        pending = f", {_amount(inputs)}" if staged < files else ""
        parts.append(f"{staged} of {_files(files)} staged{pending}")
    if outputs := status.get("outputs"):
        parts.append(f"{sum(map(_written, outputs))} written, {_sum(outputs, 'safe')} safe")
    if wrong := next((note for note in _notes(body) if note.action), None):
        parts.append(f"{wrong.reason}: {wrong.message} {wrong.action}")
    return visible(f"{metadata['name']}: {'; '.join(parts)}")


def table_of(bodies: Iterable[Object], now: datetime, *, everywhere: bool) -> str:
    """Write a line for each VolatileRSE."""
    rows = [("NAMESPACE", "NAME", "PHASE", "CLASS", "STAGED", "WRITTEN", "SAFE", "LEFT", "RSE")]
    rows += [_row(body, now) for body in bodies]
    table = [[visible(cell) for cell in (row if everywhere else row[1:])] for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "".join(f"{'  '.join(map(str.ljust, row, widths)).rstrip()}\n" for row in table)


def condition_of(body: Object, type_: ConditionType) -> Mapping[str, Any]:
    """Give a condition; empty if it is not there yet."""
    conditions = (body.get("status") or {}).get("conditions") or ()
    return next((entry for entry in conditions if entry.get("type") == type_.value), {})


def _row(body: Object, now: datetime) -> tuple[str, str, str, str, str, str, str, str, str]:
    metadata, spec, status = body["metadata"], body.get("spec") or {}, body.get("status") or {}
    phase = str(status.get("phase") or "Pending")
    inputs, outputs = status.get("inputs") or (), status.get("outputs") or ()
    return (
        str(metadata.get("namespace")),
        str(metadata["name"]),
        phase,
        str(spec.get("className")),
        f"{_sum(inputs, 'staged')}/{_sum(inputs, 'files')}" if inputs else "-",
        str(sum(map(_written, outputs))) if outputs else "-",
        str(_sum(outputs, "safe")) if outputs else "-",
        _span(_until(status, now)) if _until(status, now) and phase not in _OVER else "-",
        str(status.get("rse") or "-"),
    )


def _about(spec: Object, status: Object) -> Iterator[str]:
    yield f"class {spec.get('className')}, account {spec.get('account')}, capacity {spec.get('capacity')}"
    if status.get("rse"):
        yield f"RSE {status['rse']}, record {status.get('record')}"


def _inputs(spec: Object, status: Object) -> Iterator[Bar]:
    told = {entry["name"]: entry for entry in status.get("inputs") or ()}
    for entry in spec.get("inputs") or ():
        name, did = str(entry["name"]), str(entry["did"])
        progress = told.get(name)
        if progress is None:
            yield Bar(name, 0, 0, f"{did}: not told yet")
            continue
        staged, files, failed = (_number(progress, key) for key in ("staged", "files", "failed"))
        said = [f"{did}: {staged} of {_files(files)} staged, {_amount([progress])}"]
        said += [f"{failed} failed"] if failed else []
        said += [f"there at about {_clock(progress['eta'])}"] if is_time(progress.get("eta")) else []
        yield Bar(name, staged, files, ", ".join(said), wrong=failed > 0)


def _amount(inputs: Sequence[Object]) -> str:
    """Tell how many bytes are there, while some are missing and it is known."""
    size = sized(_sum(inputs, "bytes"))
    # An operator of an earlier version tells no bytes.
    tells = any("stagedBytes" in entry for entry in inputs)
    pending = tells and _sum(inputs, "staged") < _sum(inputs, "files")
    return f"{sized(_sum(inputs, 'stagedBytes'))} of {size}" if pending else f"{size} in all"


def _outputs(spec: Object, status: Object) -> Iterator[Bar]:
    told = {entry["name"]: entry for entry in status.get("outputs") or ()}
    for entry in spec.get("outputs") or ():
        name = str(entry["name"])
        where = f"{entry.get('path')} to {entry.get('scope')}:{entry.get('dataset')}"
        where += f" at {(entry.get('destination') or {}).get('rseExpression')}"
        progress = told.get(name)
        if progress is None:
            yield Bar(name, 0, 0, f"{where}: nothing told yet")
            continue
        written, safe, risk = _written(progress), _number(progress, "safe"), _number(progress, "bytesAtRisk")
        said = f"{where}: {_files(written)} written, {safe} safe"
        said += f", {_number(progress, 'open')} open" if progress.get("open") else ""
        said += f", {sized(risk)} not safe yet" if risk else ""
        yield Bar(name, safe, written, said)


def _written(output: Object) -> int:
    # What is sealed has left the outbox, in which files are counted.
    return max(_number(output, "files"), _number(output, "sealed"))


def _unmatched(status: Object) -> str:
    unmatched = status.get("unmatched") or {}
    files = _number(unmatched, "files")
    return f"taken by no output: {_files(files)}, {sized(_number(unmatched, 'bytes'))}" if files else ""


def _left(status: Object, phase: str, now: datetime) -> str:
    left = _until(status, now)
    return "" if left is None or phase in _OVER else f"{_span(left)}, until {status['expires']} at the latest"


def _until(status: Object, now: datetime) -> timedelta | None:
    end = when(status["expires"]) if is_time(status.get("expires")) else None
    return None if end is None else end - now


def _notes(body: Object) -> Iterator[Note]:
    """Give what conditions say, what is wrong first, and what several say only once."""
    metadata, status = body["metadata"], body.get("status") or {}
    if status.get("observedGeneration", -1) < 0:
        yield Note((), Reason.PENDING.value, _NO_OPERATOR)
        return
    if int(status["observedGeneration"]) < int(metadata.get("generation", 0)):
        yield Note((), Reason.PENDING.value, "The operator has not looked at the latest change yet.")
    found: dict[tuple[str, str], list[str]] = {}
    for type_ in _ORDER:
        condition = condition_of(body, type_)
        reason, message = str(condition.get("reason", "")), str(condition.get("message", ""))
        # That a session which has not ended is not safe yet goes without saying.
        pending = type_ is ConditionType.OUTPUTS_SAFE and reason == Reason.PENDING
        if condition and not pending and reason not in _QUIET and (message or reason in REMEDIES):
            found.setdefault((reason, message), []).append(type_.value)
    notes = [_note(tuple(types), reason, message) for (reason, message), types in found.items()]
    notes += _added(status)
    yield from sorted(notes, key=lambda note: not note.action)


def _added(status: Object) -> Iterator[Note]:
    """Tell of entries that were added and are not taken up yet, or are refused."""
    for entry in status.get("entries") or ():
        state = str(entry.get("state"))
        if state not in _NOT_TAKEN:
            continue
        reason = str(entry.get("reason") or state)
        yield _note((f"{str(entry.get('kind')).lower()} {entry.get('name')}",), reason, str(entry.get("message") or ""))


def _note(types: tuple[str, ...], reason: str, message: str) -> Note:
    remedy = REMEDIES.get(Reason(reason)) if reason in set(Reason) else None
    if remedy is None:
        return Note(types, reason, message)
    action = f"{remedy.actor.value}{_MUST_ACT}{remedy.action}"
    # A message has it already, unless an operator of another version wrote it in other words.
    what = message.removesuffix(action).rstrip()
    if what == message and _MUST_ACT in message:
        return Note(types, reason, "", message)
    return Note(types, reason, what, action)


def _lines(page: Page) -> Iterator[str]:
    yield f"{page.name}: {page.phase}"
    yield from (f"  {line}" for line in page.about)
    if page.left:
        yield f"  time left: {page.left}"
    outputs = [*(f"{bar.name}: {bar.said}" for bar in page.outputs), *([page.unmatched] if page.unmatched else [])]
    for title, lines in (
        ("Inputs", [f"{bar.name}: {bar.said}" for bar in page.inputs]),
        ("Outputs", outputs),
        ("Endpoints", page.endpoints),
        ("Now", list(_told(page.notes))),
    ):
        if lines:
            yield title
            yield from (f"  {line}" for line in lines)


def _told(notes: Sequence[Note]) -> Iterator[str]:
    for note in notes:
        yield ": ".join(part for part in (", ".join(note.types), note.reason) if part)
        yield from (f"  {text}" for text in (note.message, note.action) if text)


def _number(entry: Object, key: str) -> int:
    value = entry.get(key)
    return value if isinstance(value, int) else 0


def _sum(entries: Iterable[Object], key: str) -> int:
    return sum(_number(entry, key) for entry in entries)


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"


def sized(count: int) -> str:
    """Write a number of bytes as people read it."""
    size, unit = float(count), _UNITS[0]
    for unit in _UNITS:  # noqa: B007 (the last one stays)
        if size < _STEP:
            break
        size /= _STEP
    else:
        size *= _STEP
    return f"{size:.1f} {unit}" if unit != _UNITS[0] and size < _TEN else f"{size:.0f} {unit}"


def _span(span: timedelta | None) -> str:
    minutes = 0 if span is None else max(int(span.total_seconds()) // 60, 0)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours}h"
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m"


def _clock(text: str) -> str:
    moment = when(text)
    return "" if moment is None else f"{moment:%H:%M} UTC"
