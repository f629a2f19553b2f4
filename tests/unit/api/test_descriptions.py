from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CRDS = sorted((Path(__file__).resolve().parents[3] / "crds").glob("*.json"))


def undescribed(schema: dict[str, Any], path: str) -> Iterator[str]:
    for name, field in schema.get("properties", {}).items():
        here = f"{path}.{name}"
        if not field.get("description") and name not in {"apiVersion", "kind", "metadata"}:
            yield here
        yield from undescribed(field, here)
        yield from undescribed(field.get("items", {}), here)


@pytest.mark.parametrize("path", CRDS, ids=lambda path: path.stem)
def test_kubectl_explain_has_a_word_for_every_field(path: Path) -> None:
    body = json.loads(path.read_text())
    schema = body["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert list(undescribed(schema, body["spec"]["names"]["kind"])) == []
