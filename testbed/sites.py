"""The permanent sites beside the cluster: XRootD servers that outlive every buffer."""

from __future__ import annotations

import hashlib
import socket
import subprocess
import time

from testbed import baseimages, pki
from testbed.layout import CHECKOUT, LABEL, NETWORK, PKI, SITES
from testbed.progress import Log, StepError, step

__all__ = ["davs_port", "up"]

_FOLDER = CHECKOUT / "testbed" / "images" / "site"
_READY = 30
"""Seconds in which a site must listen."""


def up() -> None:
    """Make sure that every site runs and listens."""
    pki.ensure()
    image = _image()
    for rse, host in SITES.items():
        pki.server_certificate(host)
        if _running(host):
            continue
        with step(f"Site {rse}") as log:
            log.run("docker", "rm", "-f", host, check=False)
            log.run(
                "docker", "run", "-d", "--name", host, "--hostname", host, "--network", NETWORK,
                "--label", f"{LABEL}=site", "-v", f"{PKI}:/pki:ro", "-p", "127.0.0.1::8443",
                "-e", f"SITE={host}", "-e", f"ISSUER={pki.ISSUER}", "-e", f"AUDIENCE={pki.audience(host)}", image,
            )  # fmt: skip
            _await(host, log)


def davs_port(host: str) -> int:
    """Give the port of this machine's loopback address that leads to a site's davs."""
    out = subprocess.run(["docker", "port", host, "8443/tcp"], capture_output=True, text=True, check=True).stdout
    return int(out.split()[0].rsplit(":", 1)[1])


def _image() -> str:
    key = hashlib.sha256()
    for path in sorted(_FOLDER.iterdir()):
        key.update(path.name.encode() + path.read_bytes())
    image = f"vrse-testbed/site:{key.hexdigest()[:16]}"
    if not baseimages.image_exists(image):
        with step("Site image") as log:
            log.run("docker", "build", "--network", "host", "-t", image, _FOLDER)
    return image


def _running(host: str) -> bool:
    argv = ["docker", "inspect", "-f", "{{.State.Running}}", host]
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.strip() == "true"


def _await(host: str, log: Log) -> None:
    until = time.monotonic() + _READY
    while True:
        try:
            # Docker's forwarder accepts at once: only a container that still runs is one that listens.
            log.run(
                "docker", "exec", host, "python3", "-c", "import socket; socket.create_connection(('127.0.0.1', 8443))"
            )
            socket.create_connection(("127.0.0.1", davs_port(host)), timeout=1).close()
        except (OSError, StepError, subprocess.CalledProcessError) as error:
            if time.monotonic() > until:
                log.run("docker", "logs", host, check=False)
                message = f"{host} does not listen: {error} (see {log.path})"
                raise StepError(message) from error
            time.sleep(0.3)
        else:
            return
