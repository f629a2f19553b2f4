"""The catalogue through the stock Rucio client."""

from volatile_rse.adapters.rucio.catalogue import RucioCatalogue

__all__ = ["RucioCatalogue"]
