"""Manifests for people without Helm, rendered from the chart: ``python -m testbed.rendering`` writes them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

from testbed import golang
from testbed.layout import CHECKOUT
from volatile_rse.api.crds import KINDS, crd

__all__ = ["HELM", "kinds_of_chart", "rendered", "written"]

HELM = ("helm.sh/helm/v3/cmd/helm", "v3.19.5")
CHART, MANIFESTS = CHECKOUT / "charts" / "volatile-rse", CHECKOUT / "manifests"
_NOT_OURS = {"monitoring.yaml"}
"""Templates of objects that the chart has only where somebody asks for them."""
_WAYS = ("policy", "webhook") if (CHART / "templates" / "_injection.tpl").exists() else ("",)
_APART = ("injection-", "uninstall-job.")
"""Begin of what is no part of the base: a choice, or an end."""
_VALUES = (
    "image.repository=volatile-rse/operator,image.tag=latest,"
    "bufferImage.repository=volatile-rse/buffer,bufferImage.tag=latest,"
    "sidecarImage.repository=volatile-rse/sidecar,sidecarImage.tag=latest"
)
_OF_HELM = re.compile(r"helm\.sh/chart|app\.kubernetes\.io/(managed-by|instance|version)")
"""Labels that are true of a release alone."""
_LABELS = re.compile(r'labels: (\{"app\.kubernetes\.io/[^}]*\})')
_NOTE = "# Made by `make generate` from charts/volatile-rse/templates/{name}: do not edit.\n"
_BASE_NOTE = "# Made by `make generate`: a base for kustomize (docs/gitops.md).\n"
_NAMESPACE = """\
apiVersion: v1
kind: Namespace
metadata:
  name: volatile-rse
  labels: {pod-security.kubernetes.io/enforce: restricted}
---
"""
"""Of the release: Helm makes it, or finds it, before it installs anything."""


def kinds_of_chart() -> str:
    """Give the template of the kinds."""
    keep = "    {{- if .Values.crds.keep }}\n    helm.sh/resource-policy: keep\n    {{- end }}\n"
    texts = []
    for kind in KINDS:
        body = crd(kind)
        body["metadata"]["annotations"] = {"volatilerse.io/keep": "?"}
        text = yaml.safe_dump(body, sort_keys=True, width=140, allow_unicode=True)
        if "{{" in text:
            message = f"{kind.name}: its description would be taken for a part of Helm's language"
            raise ValueError(message)
        labels = '  labels: {{ include "volatile-rse.labels" . }}\n'
        given = "  annotations:\n    volatilerse.io/keep: '?'\n"
        texts.append(text.replace(given, f"  annotations:\n{keep}{labels}", 1))
    note = "{{- /* Made by `make generate` from the models: do not edit. */ -}}\n"
    return note + "{{- if .Values.crds.install }}\n" + "---\n".join(texts) + "{{- end }}\n"


def rendered() -> Mapping[str, str]:
    """Give the text of each manifest by its name, as Helm renders it with the values that manifests have."""
    found: dict[str, str] = {}
    for way in _WAYS:
        # Each way of injection has a template of its own.
        found |= _objects(f"{_VALUES},injection={way}" if way else _VALUES)
    found["operator.yaml"] = _NAMESPACE + found["operator.yaml"]
    return {name: _NOTE.format(name=name) + found[name] for name in sorted(found)}


def _objects(values: str) -> dict[str, str]:
    where = ("--kube-version", golang.KUBERNETES_VERSION, "-n", "volatile-rse", "--set", values)
    argv = [str(golang.installed(*HELM)), "template", "volatile-rse", str(CHART), *where]
    text = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout
    found: dict[str, str] = {}
    for document in re.split(r"^---\n", text, flags=re.MULTILINE):
        match = re.match(r"# Source: volatile-rse/templates/(\w[^/\n]*)\n", document)
        if match is not None and match[1] not in _NOT_OURS:
            body = _without_helm(document[match.end() :].strip("\n") + "\n")
            found[match[1]] = found[match[1]] + "---\n" + body if match[1] in found else body
    return found


def _without_helm(text: str) -> str:
    def labels(match: re.Match[str]) -> str:
        kept = {key: value for key, value in json.loads(match[1]).items() if not _OF_HELM.fullmatch(key)}
        return f"labels: {{{', '.join(f'{key}: {value}' for key, value in kept.items())}}}"

    lines = [line for line in text.splitlines() if not re.match(rf"\s+({_OF_HELM.pattern}): ", line)]
    return "".join(f"{re.sub(_LABELS, labels, line)}\n" for line in lines)


def written() -> list[Path]:
    """Write the kinds into the chart, and then its manifests; give their paths."""
    kinds = CHART / "templates" / "crds.yaml"
    kinds.write_text(kinds_of_chart())
    paths = [kinds]
    for name, text in rendered().items():
        (MANIFESTS / name).write_text(text)
        paths.append(MANIFESTS / name)
    base = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": sorted(path.name for path in paths[1:] if not path.name.startswith(_APART)),
    }
    path = MANIFESTS / "kustomization.yaml"
    path.write_text(_BASE_NOTE + yaml.safe_dump(base))
    return [*paths, path]


if __name__ == "__main__":
    for path in written():
        sys.stdout.write(f"{path}\n")
