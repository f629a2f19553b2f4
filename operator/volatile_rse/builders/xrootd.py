"""The configuration of a buffer's XRootD: open, fenced, and of the empty server that stands in during the drain."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from volatile_rse.api.agent import CONFIG, CONNECTIONS, DATA, DAVS_PORT, ROOT_PORT, RUN

__all__ = ["BUFFER_FILES", "FAR", "Issuer", "ServerSettings", "buffer_files", "drain_files"]

BUFFER_FILES = (
    "open.cfg", "fenced.cfg", "scitokens-open.cfg", "scitokens-fenced.cfg", "authdb", "keycache.json",
)  # fmt: skip
"""What ``buffer_files`` gives."""

FAR = 4102444800
"""2100-01-01: until when a key given by us needs no question to its issuer."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """Whose tokens the buffer takes."""

    name: str
    """Label of its section: letters and digits."""
    url: str
    """``iss``; it need not exist, since its keys are given here."""
    jwks: Mapping[str, Any]
    """``{"keys": […]}``, public keys only."""
    paths: tuple[str, ...] = ("/store", "/outbox", "/publish", "/lease")
    """Where its tokens count; none would mean everywhere."""
    fenced_paths: tuple[str, ...] = ("/store",)
    """Where they still count once the buffer is fenced."""


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """What differs between buffers."""

    site: str
    """Name of the RSE."""
    audience: str
    """``aud`` of the tokens for this buffer and no other."""
    issuers: Sequence[Issuer]


def buffer_files(settings: ServerSettings) -> dict[str, str]:
    """Give the files that are mounted at ``CONFIG`` in the XRootD container of a buffer."""
    texts = (
        _server(settings.site, "open"),
        _server(settings.site, "fenced"),
        _scitokens(settings, fenced=False),
        _scitokens(settings, fenced=True),
        _NOBODY,
        _keycache(settings.issuers),
    )
    return dict(zip(BUFFER_FILES, texts, strict=True))


def drain_files(site: str) -> dict[str, str]:
    """Give the files of the ConfigMap of the empty, anonymous, read-only server.

    Whatever is asked or deleted there is not found: that is what lets Rucio's reaper finish after the storage is gone.
    """
    lines = [*_ports(), "all.export /store r/o", *_place(site), *_tls()]
    return {"drain.cfg": _text(lines)}


_NOBODY = "g /volatile-rse/nobody /store/volatile-rse-nobody/ rl\n"
"""An authdb that opens nothing: tokens alone decide. The chain of authorisations insists on having one."""


def _ports() -> list[str]:
    return [
        f"xrd.port {ROOT_PORT}",
        f"xrd.protocol http:{DAVS_PORT} libXrdHttp.so",
        # A thread for each connection that what stands before XRootD lets through, and some for who asks in the pod. A
        # request by https is answered only while fewer are busy than may stay with a connection: all but ``avlt``.
        f"xrd.sched maxt {2 * CONNECTIONS + 256} avlt 1",
        # Clients come from addresses of that, which nobody has given a name.
        "xrd.network nodnr",
        "all.role server",
        f"oss.localroot {DATA}/ns",
    ]


def _place(site: str) -> list[str]:
    return [f"all.adminpath {RUN}", f"all.pidpath {RUN}", f"all.sitename {site}"]


def _tls() -> list[str]:
    return [
        f"xrd.tls {RUN}/tls/tls.crt {RUN}/tls/tls.key hsto 5",
        f"xrd.tlsca certfile {RUN}/tls/ca.crt refresh 60s",
        "xrootd.tls capable all",
        # By default who asks for a checksum beside three others waits 30 s.
        "xrootd.chksum max 512 adler32",
    ]


def _server(site: str, gate: str) -> str:
    lines = [
        *_ports(),
        *(f"all.export /{area}" for area in ("store", "outbox", "publish", "lease", "probe")),
        *_place(site),
        *_tls(),
        "xrootd.seclib libXrdSec.so",
        # By default a token may have 4 KiB. A longer one than fits into a header line of https is never issued.
        "sec.protocol ztn -maxsz 32k",
        "sec.protbind * only ztn",
        "ofs.authorize 1",
        f"ofs.authlib ++ libXrdAccSciTokens.so config={CONFIG}/scitokens-{gate}.cfg",
        f"acc.authdb {CONFIG}/authdb",
        "http.header2cgi Authorization authz",
        "http.desthttps yes",
        # A file keeps its sticky bit until its upload has ended: that is how an inventory knows torn ones.
        "ofs.persist auto hold 0",
    ]
    return _text(lines)


def _scitokens(settings: ServerSettings, *, fenced: bool) -> str:
    lines = ["[Global]", f"audience = {settings.audience}", "onmissing = passthrough"]
    for issuer in settings.issuers:
        lines += [
            f"[Issuer {issuer.name}]",
            f"issuer = {issuer.url}",
            "base_path = /",
            "map_subject = true",
            "authorization_strategy = capability",
            f"restricted_path = {', '.join(issuer.fenced_paths if fenced else issuer.paths)}",
        ]
    return _text(lines)


def _keycache(issuers: Sequence[Issuer]) -> str:
    """Give the rows by which the token library knows each issuer's keys without asking it."""
    rows = {issuer.url: json.dumps({"jwks": issuer.jwks, "expires": FAR, "next_update": FAR}) for issuer in issuers}
    return json.dumps(rows, indent=1, sort_keys=True)


def _text(lines: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
