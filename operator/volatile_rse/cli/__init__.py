"""The command line for people: ``vrse``, and as a plugin ``kubectl volatile-rse``."""
