"""Volatile RSEs: short-lived Rucio storage elements for analysis sessions on Kubernetes."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
"""Also where ``volatile_rse.session``, a distribution of its own, is installed in another folder than the operator."""
