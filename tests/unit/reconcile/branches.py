"""Play once up to a moment, and go on from there in several ways, each in a process of its own."""

from __future__ import annotations

import gc
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

__all__ = ["Branches"]


@dataclass
class Branches:
    """What was gone on with, and what ended badly.

    What was played before a branch is not played again for it: a child process begins with a copy of it.
    """

    failures: list[str] = field(default_factory=list)
    """What to say of each branch that ended badly."""
    plans: int = 0
    """Branches so far."""
    _report: int | None = None
    """Where a child process says why it ended badly; None in the process that all began in."""

    @property
    def is_branch(self) -> bool:
        """Whether this process is a branch: it has none of its own."""
        return self._report is not None

    def starts(self, name: str) -> bool:
        """Go on in a child process, which gets True; once it has ended this one gets False."""
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            # A collection would have all that is shared copied, and the process ends soon.
            gc.disable()
            self._report = writing
            return True
        os.close(writing)
        with os.fdopen(reading) as report:
            told = report.read()
        _, status = os.waitpid(child, 0)
        self.plans += 1
        if status:
            self.failures.append(f"{name}: {told or f'its process ended with {status}'}")
        return False

    @contextmanager
    def played(self) -> Iterator[None]:
        """Play within this: no child process leaves it."""
        try:
            yield
        except BaseException:
            if self._report is None:
                raise
            os.write(self._report, traceback.format_exc()[-4000:].encode())
            os._exit(1)
        if self._report is not None:
            os._exit(0)

    def check(self) -> None:
        """See that every branch ended well.

        Raises
        ------
        AssertionError
            One has not.
        """
        told = "\n".join(self.failures[:20])
        assert not self.failures, f"{len(self.failures)} of {self.plans} plans end badly:\n{told}"
