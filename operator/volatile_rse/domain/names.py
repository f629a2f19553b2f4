"""Names of output files, as the operator's own rooms know them; the buffer's agent takes them from ``api``."""

from __future__ import annotations

from volatile_rse.api.names import NAME_LENGTH, escape, hash_path, lfn_name

__all__ = ["NAME_LENGTH", "escape", "hash_path", "lfn_name"]
