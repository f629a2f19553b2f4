"""What a copy of an output would be called at a destination: where copies go, before there is any."""

from __future__ import annotations

from volatile_rse.api.addresses import place_of
from volatile_rse.api.conditions import Reason
from volatile_rse.api.names import file_name
from volatile_rse.api.volatilerse import Output
from volatile_rse.domain.catalogue import Did
from volatile_rse.domain.naming import file_template
from volatile_rse.ports.catalogue import Catalogue
from volatile_rse.ports.errors import RefusedError
from volatile_rse.reconcile.gather.look import Look

__all__ = ["example_of"]


def example_of(look: Look, catalogue: Catalogue, output: Output, rse: str) -> str:
    """Give the PFN that one of an output's copies would have.

    Raises
    ------
    RefusedError
        CATALOGUE_REFUSED: Rucio cannot compute it, or it is no address.
    """
    template, dataset = file_template(look.spec.class_snapshot.naming), (output.scope, output.dataset)
    example = Did(output.scope, file_name(template, look.spec.record_id, dataset, output.name, b"example"))
    pfn = catalogue.pfns(rse, [example]).get(example, "")
    if place_of(pfn) is None:
        raise RefusedError(Reason.CATALOGUE_REFUSED, f"Rucio says {pfn[:200]!r}")
    return pfn
