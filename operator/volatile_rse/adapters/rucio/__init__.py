"""The catalogue through the stock Rucio client."""

from volatile_rse.adapters.rucio.catalogue import RucioCatalogue
from volatile_rse.adapters.rucio.server import RucioServer

__all__ = ["RucioCatalogue", "RucioServer"]
