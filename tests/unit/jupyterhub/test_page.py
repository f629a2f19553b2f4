"""What docs/jupyterhub.md shows is taken by hub, class and kinds; its notebook runs in the test with a browser."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from traitlets import HasTraits
from traitlets.config import Config

from testbed.layout import CHECKOUT
from tests.e2e import test_jupyterhub
from volatile_rse.api.volatilerseclass import Tenancy
from volatile_rse.jupyterhub import Hooks
from volatile_rse.jupyterhub.checks import HANDLERS, Rucio
from volatile_rse.jupyterhub.spawner import VolatileRSESpawner

PAGE = (CHECKOUT / "docs" / "jupyterhub.md").read_text()
VALUES, GRANT = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))
PYTHON = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
TRAITS = VolatileRSESpawner.class_traits(config=True)
OWN = {name for name in VolatileRSESpawner.class_own_traits(config=True) if name.startswith("vrse_")}


def configured(block: str) -> Config:
    config = Config()
    exec(block, {"c": config})  # noqa: S102 (as a hub does)
    return config


@pytest.mark.parametrize("block", [block for block in PYTHON if "\nc." in f"\n{block}"])
def test_a_hub_takes_each_configuration(block: str) -> None:
    config = configured(block)
    for section, settings in config.items():
        for name, value in settings.items():
            if section in {"VolatileRSESpawner", "KubeSpawner"}:
                TRAITS[name]._validate(HasTraits(), value)
            else:
                assert (section, name) in {("JupyterHub", "spawner_class"), ("JupyterHub", "extra_handlers")}


def test_the_hooks_and_the_check_are_what_the_page_says() -> None:
    (hooks,) = (configured(block).KubeSpawner for block in PYTHON if "Hooks(" in block)
    assert isinstance(hooks.pre_spawn_hook.__self__, Hooks)
    (check,) = (configured(block) for block in PYTHON if "Rucio(" in block)
    assert isinstance(check.VolatileRSESpawner.vrse_check, Rucio)
    assert check.JupyterHub.extra_handlers.to_dict()["extend"] == HANDLERS


def test_the_values_are_settings_and_the_grant_is_one() -> None:
    settings: dict[str, Any] = VALUES["hub"]["config"]["VolatileRSESpawner"]
    for name, value in settings.items():
        TRAITS[name]._validate(HasTraits(), value)
    (grant,) = Tenancy.model_validate(GRANT["tenancy"]).grants
    assert grant.on_behalf_of == ["alice"]


def test_the_table_names_every_setting_with_its_default() -> None:
    table = dict(re.findall(r"^\| `(vrse_\w+)` \| (.*?) \|", PAGE, re.MULTILINE))
    assert set(table) == OWN
    for name in OWN:
        default = TRAITS[name].default()
        said = ", ".join(f"`{entry}`" for entry in default) if isinstance(default, list) else f"`{default}`"
        assert table[name] in {said, str(default).removesuffix(".0"), "none"}, name
        assert table[name] != "none" or default in (None, [], {})


def test_the_notebook_is_the_one_that_a_browser_runs() -> None:
    (notebook,) = (block for block in PYTHON if "vrse.current()" in block)
    assert notebook == test_jupyterhub.NOTEBOOK
