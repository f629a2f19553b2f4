"""The programs of a buffer: XRootD's supervisor, the agent beside it, and the empty server of the drain."""
