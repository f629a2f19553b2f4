"""Starts the site's XRootD: its key private to it, the token issuer's keys known without asking the issuer."""

import http.client
import os
import shutil
import signal
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

RUN, PKI = Path("/run/xrootd"), Path("/pki")
MISSES = 8
"""Questions in a row without an answer; on a busy machine its start takes some seconds, too."""
ISSUER, AUDIENCE = os.environ["ISSUER"], os.environ["AUDIENCE"]


def seed_keys() -> None:
    """Put the issuer's JWKS where the token library caches them: the issuer serves no HTTP."""
    folder = RUN / "scitokens"
    folder.mkdir(exist_ok=True)
    jwks = (PKI / "jwks.json").read_text()
    far = int(time.time()) + 10 * 365 * 86400
    row = f'{{"jwks": {jwks}, "expires": {far}, "next_update": {far}}}'
    with sqlite3.connect(folder / "scitokens_cpp.sqllite") as cache:
        cache.execute(
            "CREATE TABLE IF NOT EXISTS keycache (issuer text UNIQUE PRIMARY KEY NOT NULL, keys text NOT NULL)"
        )
        cache.execute("REPLACE INTO keycache VALUES (?, ?)", (ISSUER, row))


def answers() -> bool:
    """Ask for anything; a refusal is an answer."""
    context = ssl._create_unverified_context()  # noqa: S323, SLF001 (is it alive, not: who is it)
    line = http.client.HTTPSConnection("127.0.0.1", 8443, timeout=5, context=context)
    try:
        line.request("HEAD", "/")
        line.getresponse()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        line.close()
    return True


def main() -> int:
    """Run XRootD until it ends or this program is asked to."""
    name = os.environ["SITE"]
    shutil.copy(PKI / f"{name}.pem", RUN / "host.pem")
    # XRootD refuses a key that others may read.
    key = RUN / "hostkey.pem"
    key.unlink(missing_ok=True)
    key.touch(mode=0o400)
    key.chmod(0o600)
    key.write_bytes((PKI / f"{name}.key").read_bytes())
    key.chmod(0o400)
    (RUN / "scitokens.cfg").write_text(
        f"[Global]\naudience = {AUDIENCE}\n[Issuer testbed]\nissuer = {ISSUER}\nbase_path = /\n"
        "map_subject = true\nauthorization_strategy = capability\n"
    )
    seed_keys()
    Path("/data/store").mkdir(exist_ok=True)
    ending = threading.Event()
    # As the first process XRootD itself would ignore SIGTERM.
    signal.signal(signal.SIGTERM, lambda *_: ending.set())
    environment = os.environ | {"XDG_CACHE_HOME": str(RUN)}
    while not ending.is_set():
        server = subprocess.Popen(["xrootd", "-c", "/etc/site/xrootd.cfg"], cwd=RUN, env=environment)
        misses = 0
        while server.poll() is None and not ending.wait(1):
            # XRootD 5.8.1 stops to answer now and then when clients hang up on it, and runs on.
            misses = 0 if answers() else misses + 1
            if misses >= MISSES:
                print("xrootd answers nobody, killing it", file=sys.stderr, flush=True)
                server.kill()
                server.wait()
        if server.poll() == 1:
            # It says so itself: the configuration is wrong.
            return 1
        if server.poll() is not None:
            # XRootD 5.8.1 crashes now and then when clients hang up on it; a site's init system starts it again.
            print(f"xrootd ended with {server.returncode}, starting it again", file=sys.stderr, flush=True)
    server.terminate()
    return server.wait()


if __name__ == "__main__":
    sys.exit(main())
