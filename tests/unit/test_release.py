"""What is released names its images by digest, everywhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from volatile_rse.api.release import IMAGES, fault_of_image, write

ROOT = Path(__file__).parents[2]
OPERATOR, BUFFER, SIDECAR = (
    f"registry.example.org:5000/vrse/{name}@sha256:{digit * 64}" for name, digit in (("o", "a"), ("b", "1"), ("s", "2"))
)


def images_of(body: Any) -> set[str]:
    """Find what a manifest names as an image."""
    if isinstance(body, list):
        return set().union(*map(images_of, body)) if body else set()
    if not isinstance(body, dict):
        return set()
    found = {value for key, value in body.items() if key == "image" and isinstance(value, str)}
    if str(body.get("name", "")).endswith("_IMAGE"):
        found.add(str(body["value"]))
    return found.union(*map(images_of, body.values()))


def test_every_image_of_a_release_is_named_by_its_digest(tmp_path: Path) -> None:
    target = tmp_path / "release"
    done = subprocess.run(
        [sys.executable, "-m", "volatile_rse.api.release", str(ROOT), str(target), OPERATOR, BUFFER, SIDECAR],
        check=True, capture_output=True, text=True, cwd=ROOT / "operator",
    )  # fmt: skip
    assert [Path(line).name for line in done.stdout.splitlines()] == ["crds", "manifests", "charts"]
    bodies = [
        body for path in (target / "manifests").glob("*.yaml") for body in yaml.safe_load_all(path.read_text()) if body
    ]
    assert images_of(bodies) == {OPERATOR, BUFFER, SIDECAR, "unused"}
    values = yaml.safe_load((target / "charts" / "volatile-rse" / "values.yaml").read_text())
    said = [
        f"{values[name]['repository']}@{values[name]['digest']}" for name in ("image", "bufferImage", "sidecarImage")
    ]
    assert said == [OPERATOR, BUFFER, SIDECAR]
    assert f"image: '{SIDECAR}'" in (target / "manifests" / "injection-policy.yaml").read_text()
    assert (target / "crds").is_dir()
    assert not [path for path in target.rglob("*") if path.is_file() and ":latest" in path.read_text()]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "operator",
        "registry.example.org/operator:1.0",
        "o@sha256:abc",
        f"o@sha256:{'A' * 64}",
        f"o@sha256:{'a' * 64} ",
    ],
)
def test_a_release_with_an_image_that_may_be_another_tomorrow_is_refused(tmp_path: Path, name: str) -> None:
    assert fault_of_image(name)
    with pytest.raises(ValueError, match="by its digest"):
        write(ROOT, tmp_path / "release", OPERATOR, name, SIDECAR)
    assert not (tmp_path / "release").exists()


def test_a_checkout_that_names_another_image_is_noticed(tmp_path: Path) -> None:
    for name in ("crds", "manifests", "charts/volatile-rse"):
        (tmp_path / "checkout" / name).mkdir(parents=True)
    (tmp_path / "checkout/manifests/operator.yaml").write_text(f"image: {IMAGES[0]}\n")
    with pytest.raises(ValueError, match="no manifest names the image volatile-rse/buffer"):
        write(tmp_path / "checkout", tmp_path / "release", OPERATOR, BUFFER, SIDECAR)
