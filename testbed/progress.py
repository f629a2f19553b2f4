"""Progress of long work: one line a step with its elapsed time, the details in a log file that errors name."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from testbed.layout import LOGS

__all__ = ["Log", "StepError", "step"]


class StepError(RuntimeError):
    """A step failed; the message says what failed and which log file has the details."""


@dataclass(frozen=True, slots=True)
class Log:
    """The log file of one step, and the way to run commands into it."""

    path: Path

    def write(self, text: str) -> None:
        """Append a line of text."""
        with self.path.open("a") as stream:
            stream.write(text.rstrip("\n") + "\n")

    def run(
        self,
        *argv: str | Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdin: str | None = None,
        timeout: float = 3600,
        check: bool = True,
    ) -> str:
        """Run a command, append its output to the log and return its standard output.

        Parameters
        ----------
        env
            Variables added to this process's environment.
        timeout
            Seconds.
        check
            Whether a non-zero exit code is an error.

        Raises
        ------
        StepError
            The command failed or took too long; names the command, its last line and the log file.
        """
        words = [str(word) for word in argv]
        self.write("$ " + " ".join(words))
        try:
            done = subprocess.run(
                words,
                input=stdin,
                env={**os.environ, **(env or {})},
                cwd=cwd,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        except FileNotFoundError as error:
            message = f"{words[0]} is not installed (see {self.path})"
            raise StepError(message) from error
        except subprocess.TimeoutExpired as error:
            message = f"{words[0]} did not end within {timeout:.0f} s (see {self.path})"
            raise StepError(message) from error
        self.write(done.stdout + done.stderr)
        if check and done.returncode != 0:
            last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
            message = f"`{' '.join(words[:4])} …` ended with {done.returncode}: {last} (see {self.path})"
            raise StepError(message)
        return done.stdout


@contextmanager
def step(title: str) -> Iterator[Log]:
    """Announce a step, hand out its log, and say how long it took.

    Raises
    ------
    StepError
        Whatever went wrong inside, naming the step and its log file.
    """
    LOGS.mkdir(parents=True, exist_ok=True)
    log = Log(LOGS / (re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") + ".log"))
    began = time.monotonic()
    print(f"  …  {title}", file=sys.stderr, flush=True)
    try:
        yield log
    except StepError as error:
        print(f"FAIL {title} ({time.monotonic() - began:.1f} s): {error}", file=sys.stderr, flush=True)
        raise
    print(f" ok  {title} ({time.monotonic() - began:.1f} s)", file=sys.stderr, flush=True)
