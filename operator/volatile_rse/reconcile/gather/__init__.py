"""The world -> facts: one module for each part of the world that is asked, and one for what each stage asks."""

from volatile_rse.reconcile.gather.stages import glimpse, look_at_objects, look_closely, look_least

__all__ = ["glimpse", "look_at_objects", "look_closely", "look_least"]
