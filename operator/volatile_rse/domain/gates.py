"""What is done for a pod that bears a session's label: it may start, or it is told what it waits for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from volatile_rse.api.conditions import Reason
from volatile_rse.domain.problems import Problem

__all__ = ["YOUTH", "BufferFact", "Release", "SessionPod", "Told", "judge"]

YOUTH = timedelta(seconds=10)
"""A pod and its VolatileRSE are often made together, in any order."""


@dataclass(frozen=True, slots=True)
class SessionPod:
    """A pod with the label that has not ended and is not being deleted."""

    namespace: str
    session: str
    """VolatileRSE that its label names."""
    gated: bool
    """It waits by our gate."""
    given: bool
    """It gets the session's Secret."""
    age: timedelta


@dataclass(frozen=True, slots=True)
class BufferFact:
    """What the VolatileRSE of that name tells."""

    usable: bool = False
    over: bool = False
    """Its session has ended, or it is being deleted."""
    fails: bool = False
    """Somebody must act, or it never becomes usable."""
    reason: str = ""
    phase: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Release:
    """The pod may start."""


@dataclass(frozen=True, slots=True)
class Told:
    """Something that an Event says, once for each key."""

    reason: Reason
    message: str
    warns: bool
    key: tuple[str, ...]


def judge(pod: SessionPod, buffer: BufferFact | None) -> Release | Told | None:
    """Decide on a pod; None: there is nothing to do or to say now.

    Parameters
    ----------
    buffer
        None: no VolatileRSE has the name.
    """
    name = f"VolatileRSE {pod.namespace}/{pod.session}"
    if pod.gated and buffer is not None and buffer.usable and not buffer.over:
        return Release()
    if not pod.given:
        return _problem(
            Reason.NOT_INJECTED,
            f"This pod has the label of {name}, and neither its Secret nor its ConfigMap: it reads and writes nothing "
            "of the session, and does not keep it alive.",
        )
    if not pod.gated:
        return None
    if buffer is None:
        if pod.age < YOUTH:
            return None
        return _problem(Reason.UNKNOWN_VOLATILE_RSE, f"This pod waits for {name}, which does not exist.")
    if buffer.over:
        return _problem(
            Reason.SESSION_OVER, f"This pod never starts: the session of {name} is over. {buffer.message}".strip()
        )
    what = f"This pod starts when {name} is usable. {buffer.message or buffer.phase or buffer.reason}".strip()
    return Told(Reason.WAITING_FOR_BUFFER, what, buffer.fails, (buffer.reason, buffer.phase))


def _problem(reason: Reason, what: str) -> Told:
    return Told(reason, Problem(reason, what).message, warns=True, key=(reason.value,))
