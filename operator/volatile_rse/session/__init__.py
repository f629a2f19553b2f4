"""What a session's programs import: files to read, where to write, what is kept; the standard library alone.

>>> import volatile_rse.session as vrse
>>> s = vrse.current()
>>> s.files("dimuon"), s.path("histograms/mass.root")
"""

from __future__ import annotations

from volatile_rse.session.errors import SessionError
from volatile_rse.session.inputs import Input, InputFile
from volatile_rse.session.leases import Lease
from volatile_rse.session.notebook import load_ipython_extension
from volatile_rse.session.sessions import Session, current
from volatile_rse.session.webdav import Written

__all__ = ["Input", "InputFile", "Lease", "Session", "SessionError", "Written", "current", "load_ipython_extension"]
