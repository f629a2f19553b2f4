from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

from volatile_rse.adapters.authority import LocalAuthority
from volatile_rse.adapters.fake_buffer import FakeBuffer, FakeEndpoints
from volatile_rse.api.agent import (
    FenceRequest,
    InputFile,
    Manifest,
    SiteTokens,
)
from volatile_rse.ports.credentials import TokenClaims
from volatile_rse.ports.errors import RefusedError, UnreachableError

OUTBOX = "/outbox/claim/"
RIGHTS = "storage.read:/store/mc storage.read:/outbox/claim storage.modify:/outbox/claim"
_CLAIMS = TokenClaims("https://issuer/", "s", "https://buffer", RIGHTS, datetime.now(UTC) + timedelta(hours=1))
SESSION = LocalAuthority(*LocalAuthority.create()).token(_CLAIMS)


def manifest(*names: str) -> Manifest:
    files = [
        InputFile(
            scope="mc", name=name, entries=["in"], path=f"/store/mc/{name}", bytes=10, adler32="0" * 8,
            sources=["davs://a/b"],
        )
        for name in names
    ]  # fmt: skip
    credentials = {"a": SiteTokens(read=SecretStr("t"))}
    return Manifest(digest="a" * 64, claims=["claim"], inputs=files, credentials=credentials)


def test_inputs_are_staged_listed_and_readable() -> None:
    buffer = FakeBuffer(page=2)
    door = FakeEndpoints({"b": buffer})
    assert buffer.report().manifest is None
    buffer.broken["/store/mc/z"] = "wrong checksum"
    buffer.send_manifest(manifest("x", "y", "z"))
    assert door.can_read("b", 1, "/store/mc/x", SESSION) is not None
    buffer.advance()
    (total,) = buffer.report().inputs
    assert (total.files, total.staged, total.failed, total.staged_bytes) == (3, 2, 1, 20)
    assert [failure.error for failure in buffer.report().failures] == ["wrong checksum"]
    assert door.can_read("b", 1, "/store/mc/x", SESSION) is None
    first = buffer.inputs()
    assert first.next is not None
    assert len(first.items) + len(buffer.inputs(first.next).items) == 3
    assert buffer.inputs(first.next).next is None
    del buffer.broken["/store/mc/z"]
    buffer.restart()
    assert buffer.report().manifest is None
    buffer.send_manifest(manifest("x", "y", "z"))
    buffer.advance()
    assert buffer.report().inputs[0].staged == 3


def test_a_fence_is_reached_and_never_goes_back() -> None:
    buffer = FakeBuffer()
    door = FakeEndpoints({"b": buffer})
    assert door.can_write("b", 1, OUTBOX, SESSION)
    assert not door.can_write("b", 1, "/store/", SESSION)
    assert buffer.fence(FenceRequest(generation=2)).mode == "fenced"
    assert buffer.report().actual.mode == "open"
    buffer.advance()
    assert buffer.report().actual == buffer.report().desired
    assert not door.can_write("b", 1, OUTBOX, SESSION)
    with pytest.raises(PermissionError):
        buffer.write("claim", "late", b"")
    with pytest.raises(RefusedError, match="older"):
        buffer.fence(FenceRequest(generation=1))


def test_failures_are_played() -> None:
    buffer = FakeBuffer()
    buffer.fail_next()
    with pytest.raises(UnreachableError):
        buffer.fence(FenceRequest(generation=1))
    assert buffer.report().desired.mode == "open"
    buffer.fail_next(after=True)
    with pytest.raises(UnreachableError):
        buffer.fence(FenceRequest(generation=1))
    assert buffer.report().desired.mode == "fenced"
    buffer.down = True
    with pytest.raises(UnreachableError):
        buffer.report()
    assert FakeEndpoints({"b": buffer}).can_read("b", 1, "/", SESSION) is not None
    with pytest.raises(UnreachableError):
        FakeEndpoints({"b": buffer}).can_write("b", 1, OUTBOX, SESSION)


def test_only_its_tokens_open_the_door() -> None:
    buffer = FakeBuffer()
    buffer.issuers = {"https://other/"}
    door = FakeEndpoints({"b": buffer})
    for token in ("garbage", SESSION):
        assert not door.can_write("b", 1, OUTBOX, token)
        assert door.can_read("b", 1, "/store/mc/", token) is not None
    buffer.issuers.add("https://issuer/")
    assert door.can_write("b", 1, OUTBOX, SESSION)
    assert door.can_read("b", 1, "/store/mc/", SESSION) is None
    assert door.can_read("b", 1, "/store/data/", SESSION) is not None
