"""The script that JupyterLab loads in a session's server, run by the Node.js of Playwright as JupyterLab runs it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import playwright
import pytest

from volatile_rse.jupyterhub.lab import lab_files

NODE = Path(playwright.__file__).parent / "driver" / "node"
STATUS = {"rse": "VRSE-X", "endpoints": [{"protocol": "root", "url": "root://b:1094"}]}
FILES = lab_files({"rucio_base_url": "https://rucio"}, STATUS, "hub-alice")
SCRIPT = FILES["labextensions/volatile-rse/static/words.js"]
ASKED = "https://hub/user/alice/rucio-jupyterlab/did/make-available?namespace=vrse"
INIT = {"method": "POST", "body": json.dumps({"did": "user.alice:other"})}
BLOCKED = json.dumps({"ExceptionClass": "RSEWriteBlocked", "ExceptionMessage": "no RSE for writing"})
BUFFER = "Not on this session's storage"
LAB = """
const { script, url, init, status, body } = JSON.parse(require("fs").readFileSync(0, "utf8"));
globalThis.window = globalThis;
globalThis.location = { href: "https://hub/user/alice/lab" };
const did = { dialogs: [], clones: 0, warnings: [] };
console.warn = error => did.warnings.push(String(error));
class Answer extends Response {
  clone() { did.clones += 1; return super.clone(); }
}
const server = { makeRequest: async () => new Answer(body, { status }) };
const page = { showErrorMessage: async (title, text) => { did.dialogs.push([title, text]); } };
const shared = module => ({ "1.0.0": { get: async () => () => module } });
require("vm").runInThisContext(script);
const extension = window._JUPYTERLAB["volatile-rse"];
(async () => {
  extension.init({
    "@jupyterlab/services": shared({ ServerConnection: server }), "@jupyterlab/apputils": shared(page),
  });
  const plain = server.makeRequest;
  (await extension.get("./extension"))().default.activate();
  while (server.makeRequest === plain) await new Promise(setImmediate);
  did.read = await (await server.makeRequest(url, init, {})).text();
})();
// Nothing is left to do then: whatever the script says, it has said.
process.on("beforeExit", () => { process.stdout.write(JSON.stringify(did)); process.exit(0); });
"""
"""What there is of JupyterLab for it: its modules, as they are shared with extensions, and a server that answers."""


def told(body: str, status: int = 200, url: str = ASKED, **init: str) -> Any:
    """Give what the script did when JupyterLab asked and got this answer."""
    asked = {"script": SCRIPT, "url": url, "init": INIT | init, "status": status, "body": body}
    argv = [str(NODE), "-e", LAB]
    done = subprocess.run(argv, input=json.dumps(asked), capture_output=True, text=True, timeout=30, check=True)
    found = json.loads(done.stdout)
    assert (found.pop("read"), found.pop("warnings")) == (body, []), "JupyterLab itself lacks something"
    return found


@pytest.mark.parametrize("kind", ["RSEWriteBlocked", "InsufficientAccountLimit"])
def test_what_rucio_refuses_for_a_buffer_is_told_with_what_to_do(kind: str) -> None:
    ((title, text),) = told(json.dumps({"ExceptionClass": kind, "ExceptionMessage": "no"}))["dialogs"]
    assert title == BUFFER
    assert "user.alice:other is not on VRSE-X" in text
    assert "USER must act" in text
    assert text.endswith("vrse add hub-alice --input other=user.alice:other")


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (200, {"ExceptionClass": "DuplicateRule", "ExceptionMessage": "there is one"}),
        (200, {"ExceptionMessage": "there is one"}),
        (409, {"success": False, "exception_class": "DuplicateRule", "exception_message": "there is one"}),
    ],
    ids=["rucio's own", "without a class", "as the extension tells it"],
)
def test_another_refusal_is_told_in_rucio_s_words(status: int, said: dict[str, object]) -> None:
    assert told(json.dumps(said), status)["dialogs"] == [
        ["Rucio makes no rule", "Rucio makes no rule for user.alice:other on VRSE-X: there is one"]
    ]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, '["0123"]'),
        (401, '{"success": false, "error": "Not logged in", "status": 401}'),
        (500, "null"),
        (502, "<html>Bad Gateway</html>"),
        (200, ""),
    ],
    ids=["a rule", "no login", "nothing", "a proxy", "empty"],
)
def test_nothing_is_said_without_a_word_of_rucio_s(status: int, body: str) -> None:
    assert told(body, status)["dialogs"] == []


@pytest.mark.parametrize(
    ("url", "method"),
    [
        (ASKED, "GET"),
        (ASKED.replace("make-available", "other"), "POST"),
        (ASKED.replace("namespace=vrse", "namespace=site"), "POST"),
        ("https://hub/user/alice/api/contents/large.root", "POST"),
    ],
    ids=["method", "path", "instance", "a file of JupyterLab's"],
)
def test_no_other_request_of_jupyterlab_s_is_looked_into(url: str, method: str) -> None:
    assert told(BLOCKED, url=url, method=method) == {"dialogs": [], "clones": 0}
    assert told(BLOCKED)["clones"] == 1
