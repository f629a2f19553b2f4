"""The API server of the testbed's cluster, asked as fast as a program can: JSON over connections that stay open."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import requests
import yaml

from testbed.progress import StepError

__all__ = ["ApiServer", "service_account"]

_TIMEOUT = 60
_WATCH = 240
"""Seconds after which the server ends a watch; the next one goes on where it was."""
_TRIES = 20
"""Of a request for which the server has no time."""
_GONE = 410
_MERGE = "application/merge-patch+json"
Object = dict[str, Any]


class ApiServer:
    """One user's way to it.

    Parameters
    ----------
    kubeconfig
        With a client certificate, as kind writes it, or with a token.
    folder
        Where the certificate and its key are written for this process.
    """

    def __init__(self, kubeconfig: Path, folder: Path) -> None:
        written = yaml.safe_load(kubeconfig.read_text())
        place, user = written["clusters"][0]["cluster"], written["users"][0]["user"]
        self._url: str = place["server"]
        self._files: dict[str, str] = {}
        self._token: str = user.get("token", "")
        for name, data in (
            ("ca.crt", place["certificate-authority-data"]),
            ("client.crt", user.get("client-certificate-data", "")),
            ("client.key", user.get("client-key-data", "")),
        ):
            path = folder / name
            path.touch(0o600)
            path.write_bytes(base64.b64decode(data))
            self._files[name] = str(path)
        self._local = threading.local()

    def ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, query: Mapping[str, str] | None = None
    ) -> Object | None:
        """Send a request, and give what came; None: there is no such object.

        Raises
        ------
        StepError
            It was refused.
        """
        headers = {"Content-Type": _MERGE if method == "PATCH" else "application/json"}
        data = None if body is None else json.dumps(body)
        for _ in range(_TRIES):
            answer = self._session().request(
                method, self._url + path, params=dict(query or {}), data=data, headers=headers, timeout=_TIMEOUT
            )
            if answer.status_code != requests.codes.too_many_requests:
                break
            time.sleep(float(answer.headers.get("Retry-After", 1)))
        if answer.status_code == requests.codes.not_found:
            return None
        if not answer.ok:
            message = f"{method} {path}: {answer.status_code} {answer.text[:300]}"
            raise StepError(message)
        found: Object = answer.json()
        return found

    def text(self, path: str) -> str:
        """Read what is no object: metrics."""
        answer = self._session().get(self._url + path, timeout=_TIMEOUT)
        answer.raise_for_status()
        return answer.text

    def watch(
        self, path: str, query: Mapping[str, str] | None = None, stopping: threading.Event | None = None
    ) -> Iterator[tuple[str, Object]]:
        """Give what there is, as ``ADDED``, and then each change: its type and the object; never ends by itself.

        After a break all is listed again: what is given must be harmless to take twice.
        """
        wanted, halt = dict(query or {}), stopping or threading.Event()
        while not halt.is_set():
            listed = self.ask("GET", path, query=wanted) or {}
            for item in listed.get("items") or ():
                yield "ADDED", item
            version = (listed.get("metadata") or {}).get("resourceVersion", "")
            while version and not halt.is_set():
                for type_, body in self._stream(path, {**wanted, "resourceVersion": version}):
                    if type_ == "ERROR":
                        version = ""
                        break
                    version = body["metadata"]["resourceVersion"]
                    if type_ != "BOOKMARK":
                        yield type_, body
                    if halt.is_set():
                        return

    def _stream(self, path: str, query: Mapping[str, str]) -> Iterator[tuple[str, Object]]:
        """Give one watch's events; a connection that breaks ends it."""
        options = {**query, "watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": str(_WATCH)}
        try:
            with self._new_session() as session:
                answer = session.get(self._url + path, params=options, stream=True, timeout=_WATCH + _TIMEOUT)
                if answer.status_code == _GONE:
                    yield "ERROR", {}
                    return
                answer.raise_for_status()
                for line in answer.iter_lines(chunk_size=None):
                    event = json.loads(line)
                    yield event["type"], event["object"]
        except (requests.ConnectionError, requests.Timeout):
            return

    def _session(self) -> requests.Session:
        found: requests.Session | None = getattr(self._local, "session", None)
        if found is None:
            found = self._local.session = self._new_session()
        return found

    def _new_session(self) -> requests.Session:
        session = requests.Session()
        session.trust_env = False
        session.verify = self._files["ca.crt"]
        if self._token:
            session.headers["Authorization"] = f"Bearer {self._token}"
        else:
            session.cert = self._files["client.crt"], self._files["client.key"]
        return session


def service_account(kubeconfig: Path, token: str) -> str:
    """Write a kubeconfig for a service account, by its token, on the cluster of another one."""
    written = yaml.safe_load(kubeconfig.read_text())
    context = written["contexts"][0]
    context["context"]["user"] = "account"
    return yaml.safe_dump(
        {
            **{key: written[key] for key in ("apiVersion", "kind", "clusters")},
            "contexts": [context],
            "current-context": context["name"],
            "users": [{"name": "account", "user": {"token": token}}],
        }
    )
