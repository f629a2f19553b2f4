"""How long a buffer takes until it is usable, by those of its class before it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

__all__ = ["Sample", "seconds_of"]


@dataclass(frozen=True, slots=True)
class Sample:
    """A buffer that became usable."""

    class_name: object
    seconds: float
    """From its record to there."""
    bytes: int
    """Of its inputs."""


def seconds_of(samples: Collection[Sample], size: int) -> int | None:
    """Estimate for so many bytes of inputs; None: there is nothing to go by.

    What the quickest one took is what every buffer takes; what the others took longer, all together, is for their
    bytes.
    """
    if not samples:
        return None
    least = min(sample.seconds for sample in samples)
    longer = sum(sample.seconds - least for sample in samples)
    moved = sum(sample.bytes for sample in samples)
    return round(least + (size * longer / moved if moved else 0.0))
