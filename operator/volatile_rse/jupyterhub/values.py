"""Values for Zero to JupyterHub: ``python -m volatile_rse.jupyterhub.values`` prints them, code and all."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["FOLDER", "values"]

FOLDER = "/usr/local/lib/volatile-rse"
"""Where the hub's container has the modules."""
_OWN = Path(__file__)
_BUFFERS = "volatile-rse-buffers"
_PORTS = (1094, 8443)
"""root and davs of a buffer's pod."""

_HEAD = """\
# Made by `make generate`: do not edit. Values for the chart of Zero to JupyterHub; docs/jupyterhub.md says how.
# What is your site's stands in a file of your own, given after this one: hub.config.VolatileRSESpawner."""
_CONFIG = f"""\
import sys
sys.path.insert(0, "{FOLDER}")
from volatile_rse.jupyterhub.spawner import VolatileRSESpawner
from volatile_rse.jupyterhub.checks import HANDLERS
c.JupyterHub.spawner_class = VolatileRSESpawner
c.JupyterHub.extra_handlers.extend(HANDLERS)"""


def values() -> str:
    """Write the values: the modules, what loads them, and the way from servers to buffers."""
    lines = [_HEAD, "hub:", "  extraConfig:", "    00-volatile-rse: |"]
    lines += [f"      {line}" for line in _CONFIG.splitlines()]
    lines += ["  extraFiles:"]
    for path in _modules():
        lines += [
            f"    volatile-rse-{path.stem.strip('_')}:",
            f"      mountPath: {FOLDER}/volatile_rse/jupyterhub/{path.name}",
            "      stringData: |",
            *(f"        {line}".rstrip() for line in path.read_text().splitlines()),
        ]
    lines += [
        "singleuser:",
        "  networkPolicy:",
        "    egress:",
        "    - to:",
        f"      - namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {_BUFFERS}}}}}",
        f"      ports: [{', '.join(f'{{port: {port}, protocol: TCP}}' for port in _PORTS)}]",
    ]
    return "\n".join(lines) + "\n"


def _modules() -> Iterator[Path]:
    yield from (path for path in sorted(_OWN.parent.glob("*.py")) if path != _OWN)


if __name__ == "__main__":
    sys.stdout.write(values())
