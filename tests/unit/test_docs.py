"""The site of the pages is built without a warning: no link leads nowhere, and no page is left out."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from string import Template

import pytest
import yaml
from markdown_it import MarkdownIt

from tests import commands, pages
from volatile_rse.api.crds import KINDS
from volatile_rse.api.volatilerse import VolatileRSESpec
from volatile_rse.api.volatilerseclass import Tenancy

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
SHOWN = {"text", "mermaid", "{include}", "{toctree}"}
"""Languages of blocks that nobody executes."""
EXECUTED = {
    ("batch.md", "python"): "tests/unit/session/test_batch_page.py",
    ("batch.md", "sh"): "tests/unit/cli/test_leases.py",
    ("cli.md", "console"): "tests/unit/cli/test_page.py",
    ("cli.md", "sh"): "tests/e2e/test_pipx.py",
    ("first-hub.md", "sh"): "tests/e2e/test_z2jh.py",
    ("first-hub.md", "yaml"): "tests/e2e/test_z2jh.py",
    ("first-notebook.md", "python"): "tests/unit/test_docs.py",
    ("first-notebook.md", "sh"): "tests/e2e/test_z2jh.py",
    ("first-session.md", "sh"): "tests/e2e/test_first_session_page.py",
    ("gitops.md", "sh"): "tests/e2e/test_flux.py",
    ("gitops.md", "yaml"): "tests/unit/gitops/test_health.py",
    ("install.md", "bash"): "tests/e2e/test_install_page.py",
    ("install.md", "sh"): "tests/e2e/test_install_page.py",
    ("jupyterhub.md", "sh"): "tests/e2e/test_on_behalf_of.py",
    ("jupyterhub.md", "python"): "tests/unit/jupyterhub/test_page.py",
    ("jupyterhub.md", "yaml"): "tests/unit/jupyterhub/test_page.py",
    ("operations.md", "yaml"): "tests/unit/test_operations_page.py",
    ("user.md", "ipython"): "tests/unit/session/test_user_page.py",
    ("user.md", "python"): "tests/unit/session/test_user_page.py",
    ("user.md", "yaml"): "tests/unit/test_example.py",
}
"""Page and language of its blocks -> the test that executes them."""


def build(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    """Do what ``make docs`` does."""
    words = ["-m", "sphinx", "--quiet", "--fail-on-warning", "--builder", "html"]
    argv = [sys.executable, *words, str(source), str(target)]
    # Colours would stand within the words that are looked for.
    environment = {**os.environ, "NO_COLOR": "1"}
    return subprocess.run(argv, check=False, capture_output=True, text=True, env=environment)


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    done = build(ROOT / "docs", tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "index.html").is_file()
    # Alerts link to these places, where the chart is told the site's address.
    alerts = yaml.safe_load((ROOT / "charts/volatile-rse/files/alerts.yaml").read_text())
    links = [rule["annotations"]["runbook_url"] for group in alerts["groups"] for rule in group["rules"]]
    places = re.findall(r' id="([^"]+)"', (tmp_path / "alerts.html").read_text())
    assert {link.partition("#")[2] for link in links} <= set(places)


def test_make_docs_asks_for_no_less() -> None:
    (line,) = (line for line in (ROOT / "Makefile").read_text().splitlines() if "-m sphinx" in line)
    assert line.split()[3:] == ["--quiet", "--fail-on-warning", "--builder", "html", "docs", "dist/docs"]


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("[a page](nowhere.md)\n", "nowhere.md"),
        ("[a title](#nowhere)\n", "nowhere"),
        ("[a title](index.md#nowhere)\n", "nowhere"),
        ("```klingon\nqapla'\n```\n", "klingon"),
    ],
)
def test_what_a_reader_would_stumble_over_is_a_warning(tmp_path: Path, text: str, warning: str) -> None:
    (tmp_path / "docs").mkdir()
    for name, content in {
        "docs/conf.py": (ROOT / "docs" / "conf.py").read_text(),
        "pyproject.toml": (ROOT / "pyproject.toml").read_text(),
        "docs/index.md": f"# Title\n\n{text}",
    }.items():
        (tmp_path / name).write_text(content)
    done = build(tmp_path / "docs", tmp_path / "site")
    assert done.returncode != 0
    assert warning in done.stderr


def test_every_block_of_a_page_is_executed_by_a_test() -> None:
    fences = {
        (str(path.relative_to(DOCS)), language)
        for path in DOCS.rglob("*.md")
        for language in re.findall(r"^ *```(\S+)$", path.read_text(), re.MULTILINE)
    }
    assert {(page, language) for page, language in fences if language not in SHOWN} == set(EXECUTED)


@pytest.mark.parametrize(("page", "module"), sorted({(page, module) for (page, _), module in EXECUTED.items()}))
def test_the_test_of_a_page_reads_that_page(page: str, module: str) -> None:
    assert f'"{page}"' in (ROOT / module).read_text()


def test_the_request_of_the_readme_is_one_and_says_what_the_example_says() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    shown = yaml.safe_load(block)["spec"]
    whole = yaml.safe_load((ROOT / "examples" / "dimuon" / "volatilerse.yaml").read_text())["spec"]
    assert VolatileRSESpec.model_validate(shown)
    assert {key: whole[key] for key in shown} == shown


def test_what_the_page_for_installing_applies_are_objects_of_our_kinds() -> None:
    specs = {kind.name: kind.spec for kind in KINDS}
    commands = pages.script("install.md", PUBLIC_HOST="node1.example.org")
    exported = dict(re.findall(r"(\w+)=(\S+)", "\n".join(re.findall(r"^export (.*)$", commands, re.MULTILINE))))
    applied = [
        yaml.safe_load(body)
        for text in re.findall(r"<<END\n(.*?)^END$", commands, re.DOTALL | re.MULTILINE)
        for body in Template(text).substitute(exported).split("---\n")
    ]
    assert [body["kind"] for body in applied] == ["RucioConnection", "VolatileRSEClass", "VolatileRSE"]
    for body in applied:
        assert specs[body["kind"]].model_validate(body["spec"])
    # What one names another one has to be.
    connection, class_, request = (body["metadata"]["name"] for body in applied)
    assert applied[1]["spec"]["connectionName"] == connection
    assert applied[2]["spec"]["className"] == class_
    assert f"vrse/{request}" in commands
    for secret in (applied[0]["spec"]["userpass"]["secretName"], applied[1]["spec"]["siteCredentials"]["secretName"]):
        assert f"create secret generic {secret}" in commands


def test_the_values_that_the_page_for_installing_sets_are_the_chart_s() -> None:
    values = yaml.safe_load((ROOT / "charts" / "volatile-rse" / "values.yaml").read_text())
    found = [set_ for page in ("install.md", "first-hub.md") for set_ in re.findall(r"--set (\S+)", pages.script(page))]
    assert len(found) == 2
    settings = [setting for text in found for setting in text.strip('"').split(",")]
    for path in (re.split(r"[=[]", setting)[0] for setting in settings):
        where = values
        for key in path.split("."):
            assert key in where, path
            where = where[key]


def test_the_values_that_the_page_for_hubs_writes_are_settings_of_the_spawner() -> None:
    commands = pages.script("first-hub.md")
    written, patch = (
        yaml.safe_load(text.replace("$", "x"))
        for text in re.findall(r"<<END\n(.*?)^END$", commands, re.DOTALL | re.MULTILINE)[::-1]
    )
    settings = written["hub"]["config"]["VolatileRSESpawner"]
    table = set(re.findall(r"^\| `(vrse_\w+)` \|", (DOCS / "jupyterhub.md").read_text(), re.MULTILINE))
    assert set(settings) <= table
    assert Tenancy.model_validate({"grants": [patch[0]["value"]]})
    # What the page says of the form is on it.
    form = (ROOT / "operator" / "volatile_rse" / "jupyterhub" / "form.py").read_text()
    user = (DOCS / "first-hub.md").read_text().split("## 4.", 1)[1].split("\n## ", 1)[0]
    labels = set(re.findall(r"\*([^*\n]+)\*", user)) - {"Server Options", "Start"}
    assert len(labels) == 2
    assert not [label for label in labels if f">{label}" not in form]


def test_the_cell_of_the_first_notebook_is_that_which_a_browser_runs() -> None:
    (cell,) = pages.fences((DOCS / "first-notebook.md").read_text(), "python")
    # tests/e2e/test_jupyterhub.py takes it from there.
    assert cell in pages.fences((DOCS / "jupyterhub.md").read_text(), "python")


def test_what_the_first_notebook_says_of_the_form_is_on_it() -> None:
    choose = (DOCS / "first-notebook.md").read_text().split("## 1. Choose\n", 1)[1].split("\n## ", 1)[0]
    form = (ROOT / "operator" / "volatile_rse" / "jupyterhub" / "form.py").read_text()
    labels = set(re.findall(r"\*([^*\n]+)\*", choose)) - {"Server Options", "Start"}  # the hub's own
    assert len(labels) == 6
    assert not [label for label in labels if f">{label}" not in form]


def anchors(page: Path) -> set[str]:
    """Give the anchors of a page's titles, as GitHub makes them; what it includes has its own."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), re.MULTILINE)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)|`", r"\1", title).lower() for title in titles]
    return {re.sub(r"[^\w -]", "", title).replace(" ", "-") for title in plain}


def links(page: Path) -> Iterator[str]:
    """Give where the links of a page lead, pictures too, as far as it is in this repository."""
    for token in MarkdownIt("commonmark").enable("table").parse(page.read_text()):
        for child in token.children or ():
            target = child.attrs.get("href") or child.attrs.get("src")
            if isinstance(target, str) and not re.match(r"https?:|mailto:", target):
                yield target


@pytest.mark.parametrize(
    "page", [*commands.pages(), *sorted((DOCS / "decisions").glob("*.md"))], ids=lambda it: it.name
)
def test_links_lead_to_files_and_titles_that_are_there(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_glossary_is_in_order_and_has_words_that_other_pages_use() -> None:
    rows = re.findall(r"^\| ([\w ]+) \| .+ \|$", (DOCS / "glossary.md").read_text(), re.MULTILINE)
    words = [row for row in rows if row != "word"]
    assert words == sorted(set(words))
    elsewhere = " ".join(path.read_text().lower() for path in commands.pages() if path.name != "glossary.md")
    assert not [word for word in words if word not in elsewhere]
