"""Writes files to a buffer like a user who does not give up, and prints which were acknowledged; runs in a session."""

from __future__ import annotations

import random
import subprocess
import sys
import time
import zlib
from pathlib import Path

__all__ = ["main"]

_LARGEST = 200_000
_ATTEMPTS = 60
_PATIENCE = ("timeout", "-s", "KILL", "20")
"""A user who sees nothing happen interrupts, and tries again."""
_LOCAL = Path("/tmp/local")  # noqa: S108 (a volume of that pod alone)


def main(base: str, files: int, pace: float, seed: int) -> int:
    """Write the files, one after the other, each until XRootD's own client says that it is there.

    Parameters
    ----------
    base
        URL of the folder.
    pace
        Seconds between two files, on average.
    """
    rng = random.Random(seed)  # noqa: S311 (content, no secret)
    for number in range(files):
        # The first is empty: that is a file, too.
        content = rng.randbytes(rng.randrange(_LARGEST) if number else 0)
        _LOCAL.write_bytes(content)
        path = f"{number % 10}/{number:04}.bin"
        word = "ACK" if _write(f"{base}/{path}") else "NO"
        print(word, path, len(content), f"{zlib.adler32(content):08x}", flush=True)
        time.sleep(rng.uniform(0, 2 * pace))
    print("DONE", flush=True)
    return 0


def _write(url: str) -> bool:
    for _ in range(_ATTEMPTS):
        if subprocess.run([*_PATIENCE, "xrdcp", "-f", "-s", str(_LOCAL), url], check=False).returncode == 0:
            return True
        time.sleep(1)
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])))
