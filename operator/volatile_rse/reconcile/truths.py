"""The truths of a record, read each for itself: one that cannot be read takes none of the others along."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from pydantic import ValidationError
from pydantic.alias_generators import to_camel

from volatile_rse.api.rserecord import RSERecordStatus, SessionTruth
from volatile_rse.api.schema import ApiModel
from volatile_rse.domain.mending import WHOLE, safer
from volatile_rse.domain.session import EndReason
from volatile_rse.domain.stage import STEPS, session_state, when

__all__ = ["cleared", "read_truths"]

_NONE = (ValidationError, ValueError, TypeError, RecursionError)
"""How a value fails that is none of its kind."""
_APART = {"session", "steps"}
"""Truths that hold others."""


def read_truths(stored: object, created: datetime | None, now: datetime) -> tuple[RSERecordStatus, tuple[str, ...]]:
    """Read a record's status.

    Returns
    -------
    tuple[RSERecordStatus, tuple[str, ...]]
        What it says, by the safer reading of what cannot be read; and the names of that.
    """
    if (whole := _whole(stored)) is not None:
        return whole, ()
    lost: list[str] = []
    if not isinstance(stored, Mapping):
        return safer(RSERecordStatus(), [WHOLE], created, now), (WHOLE,)
    found = _parts(RSERecordStatus, stored, "", lost)
    if "session" in stored:
        found["session"] = _session(stored["session"], lost)
    if "steps" in stored:
        found["steps"] = _steps(stored["steps"], lost)
    return safer(RSERecordStatus.model_validate(found), lost, created, now), tuple(sorted(lost))


def _whole(stored: object) -> RSERecordStatus | None:
    """Read all of it at once, as it nearly always can be; None: it cannot."""
    try:
        status = RSERecordStatus.model_validate({} if stored is None else stored)
        session_state(status.session)
        given_up = None if status.discarded is None else status.discarded.at
        for time in (*status.steps.values(), status.quarantined_at, status.safe_at, status.freed_at, status.closed_at):
            when(time)
        when(given_up)
    except _NONE:
        return None
    return status


def cleared(written: Mapping[str, Any], unreadable: Collection[str]) -> dict[str, Any]:
    """Give the patch that leaves nothing of a status that could not be read, and of what was dropped for it.

    What a newer operator has added stays.
    """
    absent = {to_camel(name): None for name in RSERecordStatus.model_fields}
    session = {to_camel(name): None for name in SessionTruth.model_fields}
    steps = dict.fromkeys([*STEPS, *(name.partition(".")[2] for name in unreadable if name.startswith("steps."))])
    parts = {"session": session | written.get("session", {}), "steps": steps | written.get("steps", {})}
    return absent | dict(written) | parts


def _parts(model: type[ApiModel], stored: Mapping[str, Any], prefix: str, lost: list[str]) -> dict[str, Any]:
    """Give the fields of a model that can be read, by their names in the stored object."""
    found = {}
    for name in model.model_fields:
        key = to_camel(name)
        if key not in stored or key in _APART:
            continue
        if _is_readable(model, name, {key: stored[key]}):
            found[key] = stored[key]
        else:
            lost.append(f"{prefix}{key}")
    return found


def _is_readable(model: type[ApiModel], name: str, stored: Mapping[str, Any]) -> bool:
    try:
        read = getattr(model.model_validate(stored), name)
        if name.endswith(("_at", "_until")):
            when(read)
        elif name == "end_reason" and read:
            EndReason(read)
        elif name == "discarded" and read is not None:
            when(read.at)
    except _NONE:
        return False
    return True


def _session(stored: object, lost: list[str]) -> dict[str, Any]:
    if isinstance(stored, Mapping):
        return _parts(SessionTruth, stored, "session.", lost)
    lost.append("session")
    return {}


def _steps(stored: object, lost: list[str]) -> dict[str, str]:
    """Read the steps one by one, as many as there may be."""
    if not isinstance(stored, Mapping):
        lost.append("steps")
        return {}
    found: dict[str, str] = {}
    for step, at in stored.items():
        try:
            RSERecordStatus.model_validate({"steps": {**found, step: at}})
            if when(at) is not None:
                found[step] = at
        except _NONE:
            lost.append(f"steps.{step}")
    return found
