"""Debian base images under their ordinary names: pulled where a registry answers, else made on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from testbed.progress import Log, StepError, step

__all__ = ["SUITES", "ensure", "image_exists", "registry_answers"]

SUITES = ("bookworm", "trixie")
"""Debian 12 for the node (cgroup v1 needs its systemd) and for ROOT, Debian 13 for everything else."""

_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
_PIP_VARIABLES = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_DEFAULT_TIMEOUT")


def image_exists(name: str) -> bool:
    """Tell whether the engine has an image of this name."""
    return subprocess.run(["docker", "image", "inspect", name], capture_output=True, check=False).returncode == 0


def registry_answers(image: str) -> bool:
    """Try to pull an image, for a minute at most."""
    try:
        return (
            subprocess.run(["docker", "pull", "-q", image], capture_output=True, check=False, timeout=60).returncode
            == 0
        )
    except subprocess.TimeoutExpired:
        return False


def ensure() -> None:
    """Make sure that ``debian:<suite>-slim`` exists for every suite."""
    for suite in SUITES:
        image = f"debian:{suite}-slim"
        if image_exists(image):
            continue
        with step(f"Base image {image}") as log:
            if not registry_answers(image):
                _make(suite, image, log)


def _make(suite: str, image: str, log: Log) -> None:
    with tempfile.TemporaryDirectory(prefix="debootstrap-") as folder:
        root = Path(folder) / "root"
        log.run("debootstrap", "--variant=minbase", "--include=ca-certificates", suite, root, _mirror())
        _host_settings(root, suite)
        archive = Path(folder) / "root.tar"
        log.run("tar", "-C", root, "-cf", archive, ".")
        changes = [word for key, value in _environment().items() for word in ("--change", f"ENV {key}={value}")]
        log.run("docker", "import", "--change", 'CMD ["bash"]', *changes, archive, image)


def _mirror() -> str:
    """Give the mirror that this machine's own apt uses.

    Raises
    ------
    StepError
        It uses none.
    """
    for source in [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]:
        if not source.is_file():
            continue
        for line in source.read_text().splitlines():
            words = [word for word in line.split() if "://" in word]
            if line.startswith(("deb ", "deb [", "URIs:")) and words and "security" not in words[0]:
                return words[0]
    message = "apt's sources name no mirror, and no registry has the base images: an administrator must add one"
    raise StepError(message)


def _host_settings(root: Path, suite: str) -> None:
    """Carry over how this machine reaches packages, so that a Dockerfile needs no word about it."""
    mirror = _mirror()
    (root / "etc/apt/sources.list").write_text(f"deb {mirror} {suite} main\ndeb {mirror} {suite}-updates main\n")
    for source in sorted(Path("/etc/apt/apt.conf.d").glob("*")):
        if source.name[:2].isdigit() and int(source.name[:2]) >= 80 and "docker" not in source.name:  # noqa: PLR2004
            shutil.copy(source, root / "etc/apt/apt.conf.d" / source.name)
    for leftover in (root / "var/cache/apt/archives").glob("*.deb"):
        leftover.unlink()
    if _BUNDLE.exists():
        bundle = root / "etc/ssl/certs/host-bundle.crt"
        bundle.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(_BUNDLE, bundle)
    configuration = Path("/etc/pip.conf")
    if configuration.exists():
        shutil.copy(configuration, root / "etc/pip.conf")


def _environment() -> dict[str, str]:
    environment = {name: os.environ[name] for name in _PIP_VARIABLES if name in os.environ}
    if _BUNDLE.exists():
        names = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
        environment |= dict.fromkeys(names, "/etc/ssl/certs/host-bundle.crt")
    return environment
