"""What ``testbed/bench.py`` times beside the agent, in an image of its own: a command; the standard library alone.

It reads a job from ``/bench/job.json`` and prints what it measured as one line of JSON.
"""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path


def main() -> None:
    """Run the command."""
    job = json.loads(Path("/bench/job.json").read_text())
    began = time.monotonic()
    subprocess.run(job["command"], check=True, stdout=subprocess.DEVNULL, timeout=300)
    print(json.dumps({"seconds": time.monotonic() - began}), flush=True)


if __name__ == "__main__":
    main()
