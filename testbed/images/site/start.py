"""Starts the site's XRootD: its key private to it, the token issuer's keys known without asking the issuer."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

RUN, PKI = Path("/run/xrootd"), Path("/pki")
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


def main() -> int:
    """Run XRootD until it ends or this program is asked to; nothing starts it again."""
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
    # As the first process XRootD itself would ignore it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    environment = os.environ | {"XDG_CACHE_HOME": str(RUN)}
    server = subprocess.Popen(["xrootd", "-c", "/etc/site/xrootd.cfg"], cwd=RUN, env=environment)
    try:
        return server.wait()
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    sys.exit(main())
