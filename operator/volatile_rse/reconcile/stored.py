"""What is stored already, read so that a value that is out of its bounds today keeps nothing from its end."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from volatile_rse.api.schema import NEAREST, ApiModel

__all__ = ["read_stored"]

_LIMITS = ("le", "ge")
"""Keys of the bound in the context of an error about a number."""
_Model = TypeVar("_Model", bound=ApiModel)


def read_stored(model: type[_Model], body: Mapping[str, Any]) -> _Model:
    """Read what the operator has written, by whatever bounds: a value beyond today's counts as the nearest within.

    Raises
    ------
    ValidationError
        Something else is wrong with it.
    """
    try:
        return model.model_validate(body)
    except ValidationError as error:
        mended = copy.deepcopy(dict(body))
        faults = error.errors()
        if not all(_mend(mended, fault) for fault in faults):
            raise
    return model.model_validate(mended)


def _mend(body: Any, fault: ErrorDetails) -> bool:  # noqa: ANN401 (JSON)
    """Write the nearest value that is within the bounds; False: none is known."""
    context = fault.get("ctx") or {}
    nearest = [context[key] for key in (NEAREST, *_LIMITS) if key in context]
    *path, last = fault["loc"]
    if not nearest:
        return False
    for step in path:
        body = body[step]
    if nearest[0] is None:
        body.pop(last)
    else:
        body[last] = nearest[0]
    return True
