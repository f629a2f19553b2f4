"""What the reconciler needs of the world, as protocols with their errors; adapters/ has the implementations."""
