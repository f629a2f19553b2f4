"""What a token says of its own end."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import pytest

from volatile_rse.domain.tokens import end_of_token

END = datetime(2030, 1, 1, tzinfo=UTC)


def jwt(claims: object) -> str:
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{body}.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    ("token", "end"),
    [
        (jwt({"exp": END.timestamp()}), END),
        (jwt({"exp": int(END.timestamp())}), END),
        (jwt({}), None),
        (jwt({"exp": True}), None),
        (jwt({"exp": "soon"}), None),
        (jwt({"exp": 1e300}), None),
        (jwt([END.timestamp()]), None),
        ("e30.e30", None),
        ("a.b.c", None),
        ("macaroon", None),
        ("", None),
    ],
)
def test_the_end_is_told_by_a_jwt_alone(token: str, end: datetime | None) -> None:
    assert end_of_token(token) == end
