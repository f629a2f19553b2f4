"""A person at a hub, by a real browser."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Error, Page, sync_playwright

from testbed.hub import PASSWORD, Hub

_OPTIONS = ["--no-sandbox", "--disable-dev-shm-usage"]
_SECONDS = 90
_CELL = ".jp-Notebook .jp-Cell .cm-content"


@dataclass(frozen=True, slots=True)
class Browser:
    """Logged in as somebody."""

    hub: Hub
    page: Page
    user: str

    def open_form(self, server: str = "") -> None:
        """Open the form of a server that is not there yet."""
        self.page.goto(f"{self.hub.url}/hub/spawn/{self.user}{f'/{server}' if server else ''}")
        self.page.wait_for_selector("#vrse-form")

    def start(self) -> None:
        """Post the form."""
        self.page.click("#spawn_form button[type=submit]")

    def progress(self) -> list[str]:
        """Read what the spawn page has said so far; nothing while the page gives way to another."""
        try:
            return list(self.page.locator(".progress-log-event").all_text_contents())
        except Error:
            return []

    def watch(self) -> list[str]:
        """Follow the spawn page until the server is there; give all that it said."""
        until, said, pictured = time.monotonic() + _SECONDS, list[str](), 2
        while "/hub/" in self.page.url:
            said = self.progress() or said
            if len(said) > pictured:
                # The last one has the most in it, unless the page gives way to another.
                with suppress(Error):
                    self._picture_of_progress()
                pictured = len(said)
            assert time.monotonic() < until, f"{self.page.url}: {said}\n{self.hub.logs()}"
            assert not any("failed" in line.lower() for line in said), said
            self.page.wait_for_timeout(200)
        return said

    def _picture_of_progress(self) -> None:
        if not self.page.locator("#progress-details[open]").count():
            self.page.click("#progress-details summary", timeout=1000)
        self.picture("progress")

    def run(self, code: str) -> str:
        """Run a cell in a new notebook, and give what it prints once that has DONE in it."""
        page = self.page
        page.click(".jp-LauncherCard[data-category='Notebook']")
        page.wait_for_selector(_CELL)
        page.wait_for_selector("#jp-main-statusbar :text('| Idle')")
        page.click(_CELL)
        page.keyboard.insert_text(code)
        page.keyboard.press("Shift+Enter")
        outputs = ".jp-OutputArea-output"
        page.wait_for_function(
            "(which) => [...document.querySelectorAll(which)].some((o) => /DONE|Error/.test(o.innerText))", arg=outputs
        )
        return "\n".join(page.locator(outputs).all_text_contents())

    def asked(self, path: str, method: str = "GET", body: object = None) -> Any:
        """Ask the user's server, as its own page does."""
        cookies = {cookie["name"]: cookie["value"] for cookie in self.page.context.cookies(self.page.url)}
        headers = {"X-XSRFToken": cookies.get("_xsrf", ""), "Content-Type": "application/json"}
        options = {"method": method, "headers": headers} | ({} if body is None else {"body": json.dumps(body)})
        program = "async ([url, options]) => (await fetch(url, options)).json()"
        return self.page.evaluate(program, [f"/user/{self.user}/{path}", options])

    def stop(self) -> None:
        """Stop the server on the hub's page."""
        # The button does nothing before the page's programs are there.
        self.page.goto(f"{self.hub.url}/hub/home", wait_until="networkidle")
        self.page.click("#stop")
        self.page.wait_for_selector("#stop", state="hidden")

    def picture(self, name: str) -> None:
        """Take a picture of the page for docs/, if somebody wants new ones."""
        if folder := os.environ.get("VRSE_PICTURES"):
            self.page.screenshot(path=Path(folder) / f"jupyterhub-{name}.png")


@contextmanager
def browser(hub: Hub, user: str) -> Iterator[Browser]:
    """Log in by the hub's page."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=_OPTIONS)
        page = chromium.new_context(viewport={"width": 1000, "height": 720}).new_page()
        page.set_default_timeout(_SECONDS * 1000)
        page.goto(f"{hub.url}/hub/login")
        page.fill("#username_input", user)
        page.fill("#password_input", PASSWORD)
        page.click("#login_submit")
        yield Browser(hub, page, user)
        chromium.close()
