"""What becomes of an answer that cannot be read: an error of the port, whatever it does to who reads it."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, TypeVar

from volatile_rse.api.conditions import Reason
from volatile_rse.ports.errors import PortError, UnreachableError

__all__ = ["told_apart"]

_log = logging.getLogger(__name__)
_WORDS = 200

T = TypeVar("T")


def told_apart(port: type, reason: Reason, who: str) -> Callable[[type[T]], type[T]]:
    """Have all methods of a port fail as ports do: the last resort for what nobody has thought of.

    Parameters
    ----------
    port
        The protocol whose methods are meant.
    who
        Answers.
    """

    def decorate(adapter: type[T]) -> type[T]:
        for name in vars(port):
            if not name.startswith("_") and name in vars(adapter):
                setattr(adapter, name, _guarded(getattr(adapter, name), reason, who))
        return adapter

    return decorate


def _guarded(method: Callable[..., Any], reason: Reason, who: str) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 (of any method)
        try:
            return method(*args, **kwargs)
        except PortError:
            raise
        except Exception as error:
            # Words of an error may repeat what is secret: the log of the operator has them.
            _log.warning("%s: %s cannot be read", method.__qualname__, who, exc_info=True)
            what = f"What {who} answers to {method.__name__} cannot be read: {type(error).__name__}."
            raise UnreachableError(reason, what) from error

    return call
