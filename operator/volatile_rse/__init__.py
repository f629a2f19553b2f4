"""Volatile RSEs: short-lived Rucio storage elements for analysis sessions on Kubernetes."""
