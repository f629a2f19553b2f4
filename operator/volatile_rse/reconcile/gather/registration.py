"""What Rucio has of a buffer: its RSE, its ledger, and what is registered on it."""

from __future__ import annotations

from volatile_rse.api.rserecord import RSERecordSpec
from volatile_rse.builders.rse import buffer_rse
from volatile_rse.reconcile.gather.look import Look, guarded

__all__ = ["foreign_rules", "last_copies", "registered", "replicas", "rse"]


def rse(look: Look) -> None:
    """Look for RSE and ledger."""
    with look.tolerant("registration.rse"):
        catalogue = look.steady()
        known = catalogue.rse(buffer_rse(look.spec)) if _may_have_rse(look.spec) else None
        # Where there is an RSE there is its ledger: it comes first, and goes last.
        ledger = True if known is not None and known.complete else catalogue.ledger_exists(look.ledger)
        look.set(ledger=ledger, rse=known, rse_asked=True)


@guarded
def registered(look: Look) -> None:
    """Ask what was ever registered."""
    if look.facts.rse is not None:
        look.set(registered=look.ask(lambda: look.catalogue().registered(look.ledger)))
    elif look.facts.rse_asked:
        look.set(registered=frozenset())


@guarded
def replicas(look: Look) -> None:
    """Ask how each replica stands."""
    if look.facts.rse is not None:
        look.set(replicas=look.ask(lambda: look.catalogue().replicas(look.spec.rse_name, look.ledger)))
    elif look.facts.rse_asked:
        look.set(replicas={})


@guarded
def foreign_rules(look: Look) -> None:
    """Ask for the rules of others that hold something on the buffer."""
    rules = look.ask(lambda: look.catalogue().foreign_rules(look.spec.rse_name, look.ledger))
    look.set(foreign_rules=rules)


@guarded
def last_copies(look: Look) -> None:
    """Ask Rucio what would be lost with a buffer whose agent gives no list."""
    rse(look)
    if look.facts.rse is not None:
        standing = look.ask(lambda: look.catalogue().standing(look.spec.rse_name, look.ledger))
        if standing is not None:
            look.set(last_copies=standing.last, replicas=standing.states)
    elif look.facts.rse_asked:
        look.set(last_copies=(), replicas={})


def _may_have_rse(spec: RSERecordSpec) -> bool:
    """Tell whether an RSE may exist: none is made without an address, but one that is adopted may be in the middle."""
    return spec.public is not None or spec.adopted_from is not None
