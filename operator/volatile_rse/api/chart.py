"""Templates of the Helm chart: ``python -m volatile_rse.api.chart MANIFESTS DIRECTORY`` makes them of the manifests."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

__all__ = ["TEMPLATES", "template", "write"]

_NOTE = "{{{{- /* Made by `make generate` from manifests/{name}: do not edit. */ -}}}}\n"
_BETWEEN = "\n---\n"
_RELEASE_NAMESPACE = "kind: Namespace\nmetadata:\n  name: volatile-rse\n"
"""Of the release: Helm makes it, or finds it, before it installs anything."""


def _image(value: str) -> str:
    return f'{{{{ required "{value} names no image" .Values.{value} | quote }}}}'


_COMMON = {
    r"(?<=namespace: )volatile-rse(?![\w-])": "{{ .Release.Namespace | quote }}",
    "volatile-rse-buffers": "{{ .Values.buffersNamespace | quote }}",
    r"(?<=VOLATILE_RSE_NAME, value: )volatile-rse": "{{ .Values.name | quote }}",
    "volatile-rse/operator:latest": _image("operatorImage"),
}
_GENERAL = "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy"
_VERSION = f'{{{{ if .Capabilities.APIVersions.Has "{_GENERAL}" }}}}v1{{{{ else }}}}v1beta1{{{{ end }}}}'
_MUTATING = f"admissionregistration.k8s.io/{_VERSION}"
"""The version in which the cluster has mutating policies."""
TEMPLATES: Mapping[str, Mapping[str, str]] = {
    "operator.yaml": {
        **_COMMON,
        "volatile-rse/buffer:latest": _image("bufferImage"),
        r"(?<=resourceNames: \[)volatile-rse(?!-)": "{{ .Values.name | quote }}",
        r'(?<=VOLATILE_RSE_NODE_PORTS, value: )"\d+"': "{{ .Values.nodePorts | quote }}",
        r"(?<=resources:)\n +requests: .*": " {{ toJson .Values.resources }}",
    },
    "injection-policy.yaml": {
        "(?<=apiVersion: )admissionregistration.k8s.io/v1beta1": _MUTATING,
        "volatile-rse/sidecar:latest": _image("sidecarImage").replace(" | quote", ""),
    },
    "injection-webhook.yaml": {
        **{said: instead for said, instead in _COMMON.items() if "namespace: " in said or "operator:" in said},
        "volatile-rse/sidecar:latest": _image("sidecarImage"),
    },
    "admission.yaml": {
        r"(?<=serviceaccount:)volatile-rse(?=:)": "{{ .Release.Namespace }}",
        "volatile-rse-buffers": "{{ .Values.buffersNamespace }}",
    },
    "metrics.yaml": {r"(?<=namespace: )volatile-rse(?![\w-])": "{{ .Release.Namespace | quote }}"},
    "uninstall-job.yaml": {
        **_COMMON,
        r"(?<=volatile_rse, uninstall)": "{{ if .Values.uninstall.leave }}, --leave{{ end }}",
    },
}
"""What a template says in the place of what a manifest says, for each of them; the keys are regular expressions."""
_ONLY: Mapping[str, str] = {f"injection-{way}.yaml": way for way in ("policy", "webhook")}
"""Template -> the way of injection that it is for (templates/_injection.tpl)."""


def template(name: str, manifest: str) -> str:
    """Turn a manifest into the chart's template of the same name.

    Raises
    ------
    ValueError
        The manifest does not have something that the chart's values are to replace.
    """
    parts = manifest.removesuffix("\n").split(_BETWEEN)
    text = _BETWEEN.join(part for part in parts if _RELEASE_NAMESPACE not in part) + "\n"
    for said, instead in TEMPLATES[name].items():
        text, found = re.subn(said, instead, text)
        if not found:
            message = f"manifests/{name} has nothing like {said}"
            raise ValueError(message)
    if name in _ONLY:
        text = f'{{{{- if eq (include "volatile-rse.injection" .) "{_ONLY[name]}" }}}}\n{text}{{{{- end }}}}\n'
    return _NOTE.format(name=name) + text


def write(manifests: Path, templates: Path) -> list[Path]:
    """Write the templates into a directory and give their paths."""
    templates.mkdir(parents=True, exist_ok=True)
    paths = []
    for name in TEMPLATES:
        path = templates / name
        path.write_text(template(name, (manifests / name).read_text()))
        paths.append(path)
    return paths


if __name__ == "__main__":
    for written in write(Path(sys.argv[1]), Path(sys.argv[2])):
        print(written)  # noqa: T201 - a command
