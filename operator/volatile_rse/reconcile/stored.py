"""What is stored already, read so that no bound of today keeps a buffer from its end."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar, cast

from pydantic import ValidationError
from pydantic_core import CoreSchema, ErrorDetails, SchemaValidator

from volatile_rse.api.schema import NEAREST, ApiModel

__all__ = ["read_stored"]

_LIMITS = ("le", "ge")
"""Keys of the bound in the context of an error about a number."""
_BOUNDS = {"pattern", "max_length", "min_length", "le", "ge", "lt", "gt"}
_BOUNDED = {"str", "int", "list", "dict"}
_Model = TypeVar("_Model", bound=ApiModel)


def read_stored(model: type[_Model], body: Mapping[str, Any]) -> _Model:
    """Read what the operator has written, by whatever bounds.

    A number, a duration or a quantity beyond today's bounds counts as the nearest within; a text is taken as it is.

    Raises
    ------
    ValidationError
        Something else is wrong with it.
    """
    try:
        return model.model_validate(body)
    except ValidationError as error:
        mended = copy.deepcopy(dict(body))
        for fault in error.errors():
            _mend(mended, fault)
    return cast("_Model", _boundless(model).validate_python(mended))


def _mend(body: Any, fault: ErrorDetails) -> None:  # noqa: ANN401 (JSON)
    """Write the nearest value that is within the bounds, where one is known."""
    context = fault.get("ctx") or {}
    nearest = [context[key] for key in (NEAREST, *_LIMITS) if key in context]
    if not nearest:
        return
    *path, last = fault["loc"]
    for step in path:
        body = body[step]
    if nearest[0] is None:
        body.pop(last)
    else:
        body[last] = nearest[0]


@cache
def _boundless(model: type[ApiModel]) -> SchemaValidator:
    """Make a validator of a model that knows its types, and none of the bounds of its texts and lists."""
    schema = cast("CoreSchema", _without_bounds(model.__pydantic_core_schema__))
    # Otherwise parts of the model are read by their own validators, which know the bounds.
    return SchemaValidator(schema, _use_prebuilt=False)


def _without_bounds(node: Any) -> Any:  # noqa: ANN401 (a schema of pydantic)
    if isinstance(node, dict):
        dropped = _BOUNDS if node.get("type") in _BOUNDED else set()
        return {key: _without_bounds(value) for key, value in node.items() if key not in dropped and key != "metadata"}
    if isinstance(node, list | tuple):
        return type(node)(_without_bounds(value) for value in node)
    return node
