"""XRootD is compiled once for each recipe, and lost images of an engine do not have it compiled again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from testbed import baseimages, progress, xrootd
from testbed.progress import Log, StepError

RECIPE = xrootd._RECIPE.read_text()


class Engine:
    """Keeps images, loses them, and remembers what it was told."""

    def __init__(self) -> None:
        self.images: set[str] = set()
        self.told: list[str] = []
        self.broken = ""
        """What it fails at."""

    def run(self, *argv: str | Path, **_: object) -> str:
        words = [str(word) for word in argv]
        assert words[0] == "docker"
        self.told.append(words[1])
        if words[1] == self.broken:
            raise StepError(words[1])
        match words[1]:
            case "build":
                assert words[words.index("--target") + 1] == "source"
                self.images.add(words[words.index("-t") + 1])
            case "save":
                assert words[-1] in self.images
                Path(words[3]).write_text(words[-1])
            case "load":
                self.images.add(Path(words[3]).read_text())
        return ""


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Engine:
    made = Engine()
    monkeypatch.delenv("VOLATILE_RSE_XROOTD", raising=False)
    monkeypatch.setattr(xrootd, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(xrootd, "_RECIPE", tmp_path / "Dockerfile")
    monkeypatch.setattr(progress, "LOGS", tmp_path / "logs")
    monkeypatch.setattr(Log, "run", made.run)
    monkeypatch.setattr(baseimages, "image_exists", lambda name: name in made.images)
    (tmp_path / "Dockerfile").write_text(RECIPE)
    return made


def test_it_is_compiled_once_and_kept_beside_the_engine(engine: Engine) -> None:
    image = xrootd.source()
    assert engine.told == ["build", "save"]
    assert xrootd.source() == image
    assert engine.told == ["build", "save"]
    engine.images.clear()
    assert xrootd.source() == image
    assert engine.told == ["build", "save", "load"]
    assert engine.images == {image}


@pytest.mark.parametrize("step", ["build", "save"])
def test_what_broke_off_leaves_nothing_that_counts(engine: Engine, step: str) -> None:
    engine.broken = step
    with pytest.raises(StepError):
        xrootd.source()
    engine.broken = ""
    xrootd.source()
    assert engine.told[-2:] == ["build", "save"]


@pytest.mark.parametrize(
    ("change", "compiles"),
    [
        pytest.param(
            lambda text: text.replace("haproxy python3 ", "haproxy curl python3 "), 0, id="what the buffer has"
        ),
        pytest.param(lambda text: text.replace("ARG VERSION=", "ARG VERSION=9"), 1, id="version"),
        pytest.param(lambda text: text.replace("XrdHttpTPC-5", ""), 1, id="targets"),
    ],
)
def test_only_a_change_of_what_makes_it_has_it_compiled_again(
    engine: Engine, change: Callable[[str], str], compiles: int
) -> None:
    xrootd.source()
    changed = change(RECIPE)
    assert changed != RECIPE
    xrootd._RECIPE.write_text(changed)
    xrootd.source()
    assert engine.told.count("build") == 1 + compiles


def test_debian_s_package_needs_nothing_compiled(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOLATILE_RSE_XROOTD", "debian")
    assert xrootd.source() == "debian"
    assert engine.told == []
