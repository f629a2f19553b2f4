"""One real implementation and one fake per port; the only room that imports third-party clients."""
