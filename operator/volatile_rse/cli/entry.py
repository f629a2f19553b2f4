"""Where the programs ``vrse`` and ``kubectl-volatile_rse`` begin."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

__all__ = ["main"]

_PLUGIN = "kubectl-volatile_rse"


def main() -> int:
    """Carry out the command that was asked for; give the exit code."""
    try:
        commands = importlib.import_module("volatile_rse.cli.commands")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("volatile_rse"):
            raise
        sys.stderr.write(
            f"Error: the Python package {error.name!r} is missing, which the command line needs. USER must act: "
            "install it with its libraries, pipx install 'volatile-rse[cli]'\n"
        )
        return 1
    called = Path(sys.argv[0]).name
    name = "kubectl volatile-rse" if called == _PLUGIN else "vrse"
    return int(commands.run(sys.argv[1:], name))


if __name__ == "__main__":
    sys.exit(main())
