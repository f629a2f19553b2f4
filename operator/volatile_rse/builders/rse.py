"""The RSE of a buffer, as it must be in Rucio."""

from __future__ import annotations

from volatile_rse.api.rserecord import RSERecordSpec
from volatile_rse.domain.catalogue import ATTRIBUTE_LENGTH, BufferRse
from volatile_rse.domain.naming import layout_of

__all__ = ["buffer_rse"]


def buffer_rse(record: RSERecordSpec) -> BufferRse:
    """Describe the RSE; before the record has a public address, with ports that nobody serves."""
    public, claim = record.public, record.claims[0]
    return BufferRse(
        name=record.rse_name,
        host=record.class_snapshot.exposure.public_host,
        root_port=0 if public is None else public.root_port,
        davs_port=0 if public is None else public.davs_port,
        attributes={
            **record.class_snapshot.rse_attributes,
            # Without it the server's default counts, which need not be "hash"; a record's names never change.
            "lfn2pfn_algorithm": layout_of(record.class_snapshot.naming),
            "vrse_instance": record.adopted_from or record.instance,
            "vrse_record": record.record_id,
            # A name may be longer; it is a word to people, and the record's id is what counts.
            "vrse_claim": f"{claim.namespace}/{claim.name}"[:ATTRIBUTE_LENGTH],
            "vrse_account": claim.account,
        },
    )
