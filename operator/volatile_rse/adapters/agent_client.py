"""A buffer's agent over mutual TLS: the client's side of ``agent/service.py``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, TypeVar

import requests
from pydantic import ValidationError

from volatile_rse.adapters import https
from volatile_rse.api.agent import (
    Copies,
    CopyPage,
    FenceRequest,
    GateState,
    InputPage,
    Manifest,
    OutputPage,
    Report,
    SealRequest,
    SessionWords,
    SiteTokens,
)
from volatile_rse.api.conditions import Reason
from volatile_rse.api.schema import ApiModel
from volatile_rse.api.text import visible
from volatile_rse.ports.buffer import Buffer
from volatile_rse.ports.credentials import KeyPair
from volatile_rse.ports.errors import RefusedError, UnreachableError

__all__ = ["AgentClient"]

_TIMEOUT = 10
"""Seconds that it may be silent."""
_DEADLINE = 30
"""Seconds until its whole answer is there."""
_ORDER_TIMEOUT, _ORDER_DEADLINE = 60, 120
"""An order may name every file of a large dataset, and each goes to the agent's disk before the answer."""
_MOST = 64 << 20
"""Bytes of an answer: a page of the longest rows has a quarter of that."""
_PAGE = 1000
_TRANSIENT = {408, 429, 502, 503, 504}
_WORDS = 512
"""Characters of an answer that an error repeats."""

_Model = TypeVar("_Model", bound=ApiModel)
_Page = TypeVar("_Page", InputPage, OutputPage, CopyPage)


class AgentClient(Buffer):
    """One buffer's agent.

    Parameters
    ----------
    where
        Address and port at which it listens.
    name
        What its certificate must name.
    bundle
        Certificates of the authority that signed the agent's, PEM.
    pair
        The operator's client certificate.
    """

    def __init__(self, where: tuple[str, int], name: str, bundle: str, pair: KeyPair) -> None:
        self._where = https.netloc(*where)
        self._name = name
        self._bundle = bundle
        self._pair = pair

    def report(self) -> Report:
        """Read its state now."""
        return self._parsed(Report, self._call("GET", "report"))

    def send_manifest(self, manifest: Manifest) -> None:
        """Give it its work."""
        # An older agent refuses what it does not know, even if it is empty.
        body = manifest.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
        # Only here do the secrets leave their wrapping.
        body["credentials"] = {host: _opened(tokens) for host, tokens in manifest.credentials.items()}
        secrets = [
            shown[right] for shown in body["credentials"].values() for right in ("read", "write") if right in shown
        ]
        self._call("PUT", "manifest", body=body, secrets=secrets)

    def tell_session(self, words: SessionWords) -> None:
        """Have this said in the session's status file."""
        self._call("PUT", "session", body=_order(words))

    def fence(self, request: FenceRequest) -> GateState:
        """Close the outboxes for good."""
        return self._parsed(GateState, self._call("POST", "fence", body=_order(request)))

    def seal(self, request: SealRequest) -> None:
        """Take inventory of the fenced outboxes and seal."""
        self._call("POST", "seal", body=_order(request))

    def copy(self, copies: Copies) -> None:
        """Order copies of sealed outputs."""
        self._call("POST", "copies", body=_order(copies))

    def inputs(self, after: int = 0) -> InputPage:
        """Read a page of inputs."""
        return self._page(InputPage, "inputs", after)

    def outputs(self, after: int = 0) -> OutputPage:
        """Read a page of outputs."""
        return self._page(OutputPage, "outputs", after)

    def copies(self, after: int = 0) -> CopyPage:
        """Read a page of copies."""
        return self._page(CopyPage, "copies", after)

    def _page(self, model: type[_Page], listing: str, after: int) -> _Page:
        page = self._parsed(model, self._call("GET", listing, query={"after": after, "limit": _PAGE}))
        if page.next is not None and (page.next <= after or not page.items):
            message = f"The agent {self._name} at {self._where} gives pages of {listing} without end: {after} again"
            raise RefusedError(Reason.BUFFER_REFUSED, message)
        if len(page.items) > _PAGE:
            message = f"The agent {self._name} at {self._where} gives {len(page.items)} {listing} where {_PAGE} fit"
            raise RefusedError(Reason.BUFFER_REFUSED, message)
        return page

    def _call(
        self,
        method: str,
        call: str,
        *,
        query: dict[str, int] | None = None,
        body: dict[str, Any] | None = None,
        secrets: Iterable[str] = (),
    ) -> requests.Response:
        url = f"https://{self._where}/v1/{call}"
        timeout, deadline = (_TIMEOUT, _DEADLINE) if method == "GET" else (_ORDER_TIMEOUT, _ORDER_DEADLINE)
        try:
            # A kept connection would be the first to tell that the agent was restarted meanwhile.
            with (
                https.bounded(deadline, _MOST),
                https.session(self._bundle, self._pair, self._name) as session,
            ):
                answer = session.request(method, url, params=query, json=body, timeout=timeout, allow_redirects=False)
        except (requests.RequestException, OSError, ValueError) as error:
            message = f"The agent {self._name} at {self._where} did not answer {method} {call}: {https.told(error)}"
            raise UnreachableError(Reason.BUFFER_UNREACHABLE, message) from error
        if answer.status_code in _TRANSIENT:
            message = (
                f"The agent {self._name} at {self._where} cannot serve {method} {call} now: {_words(answer, secrets)}"
            )
            raise UnreachableError(Reason.BUFFER_UNREACHABLE, message)
        if not answer.ok or answer.is_redirect:
            message = f"The agent {self._name} at {self._where} refused {method} {call}: {_words(answer, secrets)}"
            raise RefusedError(Reason.BUFFER_REFUSED, message)
        return answer

    def _parsed(self, model: type[_Model], answer: requests.Response) -> _Model:
        try:
            return _known(model, answer.content)
        except ValidationError as error:
            # Without the values: they are as long as it likes, and may be anything.
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            wrong = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
            message = f"The agent {self._name} at {self._where} gave no {model.__name__} of protocol v1: {wrong}"
            raise RefusedError(Reason.BUFFER_REFUSED, message) from error
        except (ArithmeticError, LookupError, TypeError, ValueError, RecursionError) as error:
            said = str(error)[:_WORDS]
            message = f"The agent {self._name} at {self._where} gave no {model.__name__} of protocol v1: {said}"
            raise RefusedError(Reason.BUFFER_REFUSED, message) from error


def _opened(tokens: SiteTokens) -> dict[str, Any]:
    """Write tokens as they are."""
    secrets = {"read": tokens.read, "write": tokens.write}
    shown = {name: secret.get_secret_value() for name, secret in secrets.items() if secret is not None}
    rest = tokens.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True, exclude=set(secrets))
    return {**shown, **rest}


def _order(model: ApiModel) -> dict[str, Any]:
    """Leave out what has its default: an older agent refuses fields that it does not know."""
    return model.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)


def _known(model: type[_Model], content: bytes) -> _Model:
    """Read an answer, without the fields that a newer agent has added to it."""
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        added = [entry["loc"] for entry in error.errors() if entry["type"] == "extra_forbidden"]
        if not added:
            raise
    answer = json.loads(content)
    for *place, field in added:
        part = answer
        for step in place:
            part = part[step]
        part.pop(field)
    return model.model_validate(answer)


def _words(answer: requests.Response, secrets: Iterable[str]) -> str:
    """Repeat the agent's words: who must act is told by our own reason."""
    try:
        error = json.loads(answer.content)
        said = f"{error['object']}: {error['what']}. {error['remedy']}"
    except (ValueError, LookupError, TypeError, RecursionError):
        # Not its text: of a long one, to guess how it is written takes minutes.
        said = answer.content[:_WORDS].decode(errors="replace")
    return f"{answer.status_code} {visible(https.told(said, *secrets), _WORDS)}"
