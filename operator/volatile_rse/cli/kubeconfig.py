"""Which cluster, as whom, and in which namespace: as kubectl decides it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from kubernetes.client import Configuration
from kubernetes.config import ConfigException, list_kube_config_contexts, load_incluster_config, load_kube_config

from volatile_rse.api.conditions import Actor
from volatile_rse.cli.errors import CommandError

__all__ = ["Place", "place_of"]

_IN_POD = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True, slots=True)
class Place:
    """An API server with what it knows us by, and a namespace."""

    configuration: Configuration
    namespace: str
    named: bool
    """Whether somebody has named the namespace, and not only the context."""


def place_of(kubeconfig: str | None, context: str | None, namespace: str | None) -> Place:
    """Find the cluster: by ``--kubeconfig``, ``$KUBECONFIG``, ``~/.kube/config``, else as the pod that this runs in.

    Raises
    ------
    CommandError
        There is none, or what is there cannot be read.
    """
    named = kubeconfig or os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    files = [Path(part).expanduser() for part in named.split(os.pathsep) if part]
    if kubeconfig is None and context is None and not any(path.exists() for path in files) and _is_in_pod():
        return _of_pod(namespace)
    return _of_files(files, context, namespace)


def _is_in_pod() -> bool:
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST")) and _IN_POD.exists()


def _of_pod(namespace: str | None) -> Place:
    configuration = Configuration()
    try:
        load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    except ConfigException as error:
        what = f"The service account of this pod cannot be used: {error}."
        raise CommandError(what, Actor.USER, "have one mounted, or name a kubeconfig (--kubeconfig).") from error
    return Place(_once(configuration), namespace or _IN_POD.read_text().strip() or "default", namespace is not None)


def _of_files(files: list[Path], context: str | None, namespace: str | None) -> Place:
    named = os.pathsep.join(map(str, files))
    configuration = Configuration()
    try:
        contexts, active = list_kube_config_contexts(named)  # type: ignore[no-untyped-call]
        load_kube_config(  # type: ignore[no-untyped-call]
            named, context, client_configuration=configuration, persist_config=False
        )
        chosen = next((entry for entry in contexts if entry["name"] == context), None) if context else active
        about = dict((chosen or {}).get("context") or {})
        acts_as = any(_acts_as_another(path, about.get("user")) for path in files)
    except (ConfigException, yaml.YAMLError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        what = f"The kubeconfig {named} cannot be used: {_words(error)}."
        action = "name a cluster as for kubectl: --kubeconfig, --context, $KUBECONFIG (kubectl config get-contexts)."
        raise CommandError(what, Actor.USER, action) from error
    if acts_as:
        what = f"User {about.get('user')!r} of the kubeconfig {named} acts as another one (its field `as`)."
        raise CommandError(what, Actor.USER, "choose a context without it: this command acts as you alone.")
    return Place(_once(configuration), namespace or about.get("namespace") or "default", namespace is not None)


def _acts_as_another(path: Path, user: object) -> bool:
    """Tell whether a user's entry has a field that the client of Kubernetes would silently leave out."""
    body = yaml.safe_load(path.read_text()) if path.exists() else None
    return any(entry.get("name") == user and (entry.get("user") or {}).get("as") for entry in _users(body))


def _users(body: object) -> Iterator[Mapping[str, Any]]:
    users = body.get("users") if isinstance(body, Mapping) else None
    yield from (entry for entry in users or () if isinstance(entry, Mapping))


def _once(configuration: Configuration) -> Configuration:
    # What failed is said at once: the person repeats it.
    configuration.retries = 0
    return configuration


def _words(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
