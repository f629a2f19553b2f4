"""What the agent does not know itself of what a session is told by its status file."""

from __future__ import annotations

import hashlib
import json

from volatile_rse.api.agent import WARNING, SessionWords, ToldOutput, Warned
from volatile_rse.api.text import visible
from volatile_rse.domain.facts import Facts, Record
from volatile_rse.domain.lifetime import limits_of
from volatile_rse.domain.plan import Plan
from volatile_rse.domain.session import end_of
from volatile_rse.domain.stage import session_state, stamp
from volatile_rse.domain.status import outputs_of, warnings_of

__all__ = ["words_of"]

_MOST = 16
"""Warnings."""


def words_of(facts: Facts, record: Record, decided: Plan) -> SessionWords:
    """Say it: the same words as long as nothing has changed, whatever the time is."""
    usable, warnings = warnings_of(facts, decided)
    state = session_state(record.status.session)
    end = end_of(state, limits_of(record))
    known = outputs_of(facts, record)
    if known is None:
        known = [] if facts.request is None else list(facts.request.outputs)
    told = {output.name: output for output in known}
    names = [output.name for output in record.spec.claims[0].request.outputs]
    words = SessionWords(
        digest="0" * 64,
        claim=record.spec.claims[0].uid,
        rse=record.spec.rse_name,
        usable=usable,
        expires=None if end is None else stamp(end),
        ended_at=record.status.session.ended_at,
        inputs=[entry.name for entry in record.status.inputs or ()],
        outputs=[
            ToldOutput(name=name, registered=told[name].registered, safe=told[name].safe)
            if name in told
            else ToldOutput(name=name)
            for name in names
        ],
        warnings=[
            Warned(reason=reason.value, message=visible(message, WARNING)) for reason, message in warnings[:_MOST]
        ],
    )
    digest = hashlib.sha256(json.dumps(words.dump(), sort_keys=True).encode()).hexdigest()
    return words.model_copy(update={"digest": digest})
