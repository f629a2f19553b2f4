"""Files of an input that can be read nowhere, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from volatile_rse.api.conditions import Reason
from volatile_rse.api.volatilerse import Input
from volatile_rse.domain.catalogue import Barred, Did, File
from volatile_rse.domain.problems import Problem

__all__ = ["problems_of_missing"]

_KINDS = {
    Reason.ON_TAPE: "are on tape only",
    Reason.IN_ARCHIVE: "are inside archives",
}
"""What each needs somebody to do is another thing: so each is a problem of its own."""


def problems_of_missing(
    asked: Input, files: Sequence[File], missing: Sequence[Did], barred: Mapping[Did, Barred]
) -> tuple[Problem, ...]:
    """Say why too few files of an input can be had.

    Parameters
    ----------
    files
        All of the input.
    missing
        Those without a source.
    barred
        Where some of these are all the same.
    """
    of_kinds: dict[Reason, list[str]] = {}
    for did in missing:
        where = barred.get(did)
        reason = Reason.NO_REPLICA if where is None else where.reason
        place = {Reason.ON_TAPE: " at ", Reason.IN_ARCHIVE: " in "}.get(reason, "")
        of_kinds.setdefault(reason, []).append(f"{did}{place}{where.where if where else ''}")
    nowhere = f"have no replica on a permanent RSE of {asked.source_rse_expression!r}"
    odd = [file for file in files if file.lack]
    also = f" {len(odd)} more cannot be inputs, for example {odd[0].did}, which {odd[0].lack}." if odd else ""
    return tuple(
        Problem(
            reason,
            f"spec.inputs[{asked.name}]: {len(of_kinds[reason])} of {len(files)} files {_KINDS.get(reason, nowhere)}, "
            f"for example {of_kinds[reason][0]}, and minimumPercent is {asked.minimum_percent}.{also}",
        )
        for reason in (*_KINDS, Reason.NO_REPLICA)
        if reason in of_kinds
    )
