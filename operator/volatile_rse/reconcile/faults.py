"""What fails otherwise than by a port's word: it concerns one object, or one part of the world, and stops no other."""

from __future__ import annotations

import logging

from volatile_rse.api.conditions import Reason
from volatile_rse.domain.problems import Problem
from volatile_rse.ports import deadline
from volatile_rse.ports.errors import PortError
from volatile_rse.ports.telemetry import Telemetry

__all__ = ["failed", "log_fault", "problem_of"]

_log = logging.getLogger(__name__)


def problem_of(telemetry: Telemetry, error: Exception, where: str, reason: Reason = Reason.ANSWER_UNUSABLE) -> Problem:
    """Make a problem of whatever went wrong; call it while the error is handled.

    Parameters
    ----------
    where
        What was asked or done, and about which object.
    reason
        Of an error that is none of a port: its words may repeat what is secret, so that the log alone has them.
    """
    if isinstance(error, PortError):
        return failed(error)
    log_fault(telemetry, error, where)
    return Problem(reason, f"{where} ({type(error).__name__}).")


def failed(error: PortError) -> Problem:
    """Make a problem of a call that failed: it is nobody's, where only the time of the visit was over."""
    return Problem(Reason.OUT_OF_TIME if deadline.is_over(error) else error.reason, error.what)


def log_fault(telemetry: Telemetry, error: Exception, where: str) -> None:
    """Write the traceback of what nobody has foreseen, and count it."""
    _log.error("%s", where, exc_info=error)
    telemetry.faulted("fault")
