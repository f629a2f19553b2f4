"""What JupyterLab gets for a session's RSE: how rucio-jupyterlab is configured, and the words that it lacks; pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["CONFIG", "FOLDER", "lab_files"]

FOLDER = "/etc/vrse-jupyter"
"""Where the files are in the server's container."""
CONFIG = "jupyter_server_config.json"
"""The file that JupyterLab looks for there."""

_INSTANCE = "vrse"
"""The name of the session's RSE in rucio-jupyterlab."""
_OF_THE_WHOLE = ("default_auth_type",)
_EXTENSIONS = "labextensions"
_NAME = "volatile-rse"
_PACKAGE = {
    "name": _NAME,
    "version": "0.1.0",
    "jupyterlab": {"extension": True, "_build": {"load": "static/words.js", "extension": "./extension"}},
}
_SCRIPT = """\
// rucio-jupyterlab shows nothing of a rule that Rucio refuses: this says why, and how the data come here.
(window._JUPYTERLAB = window._JUPYTERLAB || {})["volatile-rse"] = (() => {
  const ITS = @ITS@;
  // So Rucio refuses a rule on a buffer: it is closed for writing, and nobody has a quota there.
  const OF_A_BUFFER = ["RSEWriteBlocked", "InsufficientAccountLimit"];
  let shared = {};
  const modules = name => Promise.all(Object.values(shared[name] || {}).map(async one => (await one.get())()));
  const tell = async (url, init, answer) => {
    const asked = new URL(url, location.href);
    if ((init || {}).method !== "POST" || !asked.pathname.endsWith("/rucio-jupyterlab/did/make-available")) return;
    if (asked.searchParams.get("namespace") !== ITS.instance) return;
    // JupyterLab reads the answer itself. What is no JSON, and a list of rules that were made, have no word of Rucio's.
    const said = await answer.clone().json().catch(() => null) || {};
    const kind = said.ExceptionClass || said.exception_class;
    const why = said.ExceptionMessage || said.exception_message;
    const did = JSON.parse(init.body).did;
    const [page] = await modules("@jupyterlab/apputils");
    if (OF_A_BUFFER.includes(kind)) {
      await page.showErrorMessage("Not on this session's storage", `${did} is not on ${ITS.rse}, and Rucio takes no \
rule for it there. USER must act: name it in the form when you start the server the next time. Or have it added to \
this session, by somebody who may: vrse add ${ITS.session} --input other=${did}`);
    } else if (why) {
      await page.showErrorMessage("Rucio makes no rule", `Rucio makes no rule for ${did} on ${ITS.rse}: ${why}`);
    }
  };
  const listen = async () => {
    for (const { ServerConnection: server } of await modules("@jupyterlab/services")) {
      const send = server.makeRequest;
      server.makeRequest = async (url, init, settings) => {
        const answer = await send(url, init, settings);
        tell(url, init, answer).catch(console.warn);
        return answer;
      };
    }
  };
  // The page waits for what activate gives, and nothing here is worth that.
  const activate = () => { listen().catch(console.warn); };
  const extension = { id: "volatile-rse:words", autoStart: true, activate };
  return { init: scope => { shared = scope; }, get: async () => () => ({ __esModule: true, default: extension }) };
})();
"""
"""An extension as JupyterLab loads it when it was built already: nothing of it is built."""


def lab_files(instance: Mapping[str, Any] | None, status: Mapping[str, Any], session: str) -> dict[str, str]:
    """Give the files by their names below ``FOLDER``; none where the RSE's address is not known yet.

    Parameters
    ----------
    instance
        What the hub's admin says of the catalogue; ``default_auth_type`` is that of the whole extension.
    status
        Of the VolatileRSE.
    session
        Its name.
    """
    endpoints = status.get("endpoints")
    urls = [
        str(entry.get("url"))
        for entry in (endpoints if isinstance(endpoints, list) else [])
        if isinstance(entry, Mapping) and entry.get("protocol") == "root"
    ]
    rse = status.get("rse")
    if not instance or not urls or not isinstance(rse, str):
        return {}
    own = {
        "name": _INSTANCE,
        "display_name": f"This session ({rse})",
        "mode": "replica",
        "destination_rse": rse,
        # The path of a file begins with a slash of its own, and root:// asks for two.
        "rse_mount_path": f"{urls[0].rstrip('/')}//",
        "path_begins_at": 0,
    }
    whole = {key: instance[key] for key in _OF_THE_WHOLE if key in instance}
    entry = {key: value for key, value in instance.items() if key not in whole}
    config = {
        "RucioConfig": {**whole, "default_instance": _INSTANCE, "instances": [{**entry, **own}]},
        "LabServerApp": {"extra_labextensions_path": [f"{FOLDER}/{_EXTENSIONS}"]},
    }
    its = {"instance": _INSTANCE, "rse": rse, "session": session}
    return {
        CONFIG: json.dumps(config),
        f"{_EXTENSIONS}/{_NAME}/package.json": json.dumps(_PACKAGE),
        f"{_EXTENSIONS}/{_NAME}/static/words.js": _SCRIPT.replace("@ITS@", json.dumps(its)),
    }
