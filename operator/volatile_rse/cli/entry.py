"""Where the programs ``vrse`` and ``kubectl-volatile_rse`` begin."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

__all__ = ["complete", "main"]

_PLUGIN = "kubectl-volatile_rse"
_FILES, _NO_FILES = ":0", ":4"
"""What kubectl is told about files: they may be offered, or not."""


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


def complete() -> int:
    """Offer kubectl what may come next: it calls ``kubectl_complete-volatile_rse`` with the words and the begin."""
    try:
        commands = importlib.import_module("volatile_rse.cli.commands")
    except ModuleNotFoundError:
        # The command itself says what is missing.
        return 1
    found = commands.offered(sys.argv[1:])
    lines = [
        item.value if item.help is None else f"{item.value}\t{item.help}" for item in found if item.type == "plain"
    ]
    files = _FILES if any(item.type != "plain" for item in found) else _NO_FILES
    sys.stdout.write("".join(f"{line}\n" for line in (*lines, files)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
