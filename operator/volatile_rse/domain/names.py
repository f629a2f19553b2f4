"""Names of output files, as the operator's own rooms know them; the buffer's agent takes them from ``api``."""

from __future__ import annotations

from volatile_rse.api.names import (
    NAME_LENGTH,
    Layout,
    escape,
    fault_of_path,
    file_name,
    hash_path,
    lfn_name,
    rse_path,
    scope_folder,
    scope_parts,
)

__all__ = [
    "NAME_LENGTH",
    "Layout",
    "escape",
    "fault_of_path",
    "file_name",
    "hash_path",
    "lfn_name",
    "rse_path",
    "scope_folder",
    "scope_parts",
]
