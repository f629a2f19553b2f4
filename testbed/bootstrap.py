"""What ``make venv`` runs: installs what a bare Debian lacks and makes ``.venv``; needs the system's python3 alone."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

# Run as a program, Python looks beside this file first; the package itself lies one folder above.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from testbed import engine  # noqa: E402
from testbed.layout import CHECKOUT  # noqa: E402
from testbed.progress import Log, StepError, step  # noqa: E402

__all__ = ["main"]

_OLDEST = (3, 11)
_VENV = CHECKOUT / ".venv"
_STAMP = _VENV / "installed-from"
_REQUIREMENTS = CHECKOUT / "requirements" / "dev.txt"
_CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")

_ALWAYS = {"git": "git", "chromium": "chromium"}
"""Program -> Debian package that everybody needs; a browser opens the hub's page in a test."""

_FOR_AN_ENGINE = {
    "docker": "docker.io",
    "dockerd": "docker.io",
    "runc": "runc",
    "iptables": "iptables",
    "debootstrap": "debootstrap",
}
"""Program -> Debian package that a machine without a Docker engine needs, too."""


def missing_packages() -> list[str]:
    """Name the Debian packages that this machine lacks."""
    programs = dict(_ALWAYS)
    if os.geteuid() == 0 or not engine.answers():
        programs |= _FOR_AN_ENGINE
    # Debian keeps programs of the administrator off an ordinary user's PATH.
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    packages = {package for program, package in programs.items() if shutil.which(program, path=path) is None}
    if importlib.util.find_spec("ensurepip") is None:
        packages.add("python3-venv")
    if not _CA_BUNDLE.exists():
        packages.add("ca-certificates")
    return sorted(packages)


def install_packages() -> None:
    """Install the missing Debian packages.

    Raises
    ------
    StepError
        Packages are missing and this user or this machine cannot install them; names the command that does.
    """
    packages = missing_packages()
    if not packages:
        return
    command = f"apt-get install {' '.join(packages)}"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        message = f"this machine lacks {', '.join(packages)}: have its administrator run `{command}`, then repeat"
        raise StepError(message)
    with step("Debian packages") as log:
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        log.run("apt-get", "update", env=quiet)
        if "docker.io" in packages and _offered("docker-cli"):
            packages.append("docker-cli")  # Debian 13 only recommends the client beside the engine.
        log.run("apt-get", "install", "--yes", "--no-install-recommends", *packages, env=quiet)


def _offered(package: str) -> bool:
    done = subprocess.run(["apt-cache", "show", package], capture_output=True, check=False)
    return done.returncode == 0


def make_venv() -> None:
    """Make ``.venv`` from the locked requirements, unless it was already made from these very files."""
    key = _key()
    if _STAMP.exists() and _STAMP.read_text() == key:
        return
    with step("Python environment") as log:
        _STAMP.unlink(missing_ok=True)
        _install(log)
        _STAMP.write_text(key)


def _install(log: Log) -> None:
    python = _VENV / "bin" / "python"
    if not _works(python):
        log.run(sys.executable, "-m", "venv", "--clear", _VENV)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    log.run(*pip, "--require-hashes", "--requirement", _REQUIREMENTS)
    # The build backend is among the locked requirements: nothing is fetched here.
    log.run(*pip, "--no-deps", "--no-build-isolation", "--editable", CHECKOUT)


def _works(python: Path) -> bool:
    """Tell whether a venv is whole; one that was interrupted or lost its interpreter is made anew."""
    if not python.exists():
        return False
    return subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0


def _key() -> str:
    key = hashlib.sha256(f"{sys.version_info[:2]} {CHECKOUT}".encode())
    for source in (*sorted(_REQUIREMENTS.parent.glob("*.txt")), CHECKOUT / "pyproject.toml"):
        key.update(source.name.encode() + source.read_bytes())
    return key.hexdigest()


def main() -> int:
    """Do all of it; give the exit code."""
    if sys.version_info[:2] < _OLDEST:
        print(
            f"bootstrap: {sys.executable} is too old: run `make PYTHON=...` with Python 3.11 or newer", file=sys.stderr
        )
        return 1
    try:
        install_packages()
        make_venv()
    except StepError as error:
        print(f"bootstrap: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
