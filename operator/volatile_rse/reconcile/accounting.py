"""What accounts have used, as a table for other programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from datetime import datetime
from typing import Literal

from volatile_rse.domain.accounting import Used, used_between
from volatile_rse.domain.facts import Record
from volatile_rse.ports.cluster import Cluster
from volatile_rse.ports.errors import RefusedError
from volatile_rse.reconcile.reading import read_record

__all__ = ["FORMS", "Form", "table", "used"]

Form = Literal["csv", "json"]
FORMS: tuple[Form, ...] = ("csv", "json")


def used(cluster: Cluster, now: datetime, since: datetime, until: datetime) -> tuple[list[Used], list[str]]:
    """Add up what the records tell; also say of which nothing can be told.

    Raises
    ------
    PortError
        The records cannot be listed.
    """
    records, silent = list[Record](), list[str]()
    for body in cluster.list("RSERecord"):
        try:
            records.append(read_record(body, now))
        except RefusedError as error:
            silent.append(error.what)
    return used_between(records, since, min(until, now)), silent


def table(found: Sequence[Used], form: Form) -> str:
    """Write it as a table with a header, or as a list of objects."""
    if form == "json":
        return json.dumps([asdict(entry) for entry in found], indent=2) + "\n"
    text = io.StringIO()
    names = [field.name for field in fields(Used)]
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(asdict, found))
    return text.getvalue()
