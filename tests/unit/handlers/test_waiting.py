from __future__ import annotations

import signal

import pytest
import requests

from volatile_rse.handlers.waiting import waiting


def test_who_waits_for_the_lease_is_alive_and_gives_the_port_back() -> None:
    with waiting(0, "127.0.0.1") as port:
        assert requests.get(f"http://127.0.0.1:{port}/healthz", timeout=5).status_code == 200
    with waiting(port, "127.0.0.1") as again:
        assert again == port
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{port}/healthz", timeout=5)


def test_who_waits_for_the_lease_ends_when_told() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit), waiting(0, "127.0.0.1"):
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
