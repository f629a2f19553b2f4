"""What the operator would say of a request: by its own functions, as far as this user may read what they need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from volatile_rse.api.conditions import Reason
from volatile_rse.api.volatilerse import VolatileRSESpec
from volatile_rse.api.volatilerseclass import VolatileRSEClassSpec
from volatile_rse.cli.server import Server, Unreadable
from volatile_rse.domain.problems import Problem, problem_of_name, problems_of_request, problems_of_spec
from volatile_rse.domain.tenants import Namespace

__all__ = ["Judgement", "judge"]

_NEVER = "Rucio: whether inputs, destinations, datasets and quota are there, and how large the inputs are"
_LIMITS = "limits of the class for namespaces and accounts"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is wrong, and what nobody has looked at."""

    problems: tuple[Problem, ...]
    unjudged: tuple[str, ...]


def judge(server: Server, body: Mapping[str, Any]) -> Judgement:
    """Judge a request as the API server has completed it."""
    always = (_NEVER, _LIMITS)
    named = problem_of_name(str(body["metadata"]["name"]))
    problems = () if named is None else (named,)
    try:
        spec = VolatileRSESpec.model_validate(body["spec"])
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        return Judgement(problems, (f"the request: spec.{where} is of another version than this command", *always))
    found = server.read("VolatileRSEClass", spec.class_name)
    if isinstance(found, Unreadable):
        return Judgement((*problems, *problems_of_spec(spec)), (_not_read(found), *always))
    class_, why = _class_of(found)
    if why:
        return Judgement((*problems, *problems_of_spec(spec)), (why, *always))
    namespace = server.read("Namespace", server.namespace)
    connection = None if class_ is None else server.read("RucioConnection", class_.connection_name)
    told = problems_of_request(
        _namespace(server.namespace, namespace), spec, class_, connection_exists=connection is not None
    )
    unread = [_not_read(each) for each in (namespace, connection) if isinstance(each, Unreadable)]
    if isinstance(namespace, Unreadable):
        # Without its labels nobody knows whether a grant that asks for some means it.
        told = tuple(problem for problem in told if problem.reason is not Reason.NAMESPACE_NOT_GRANTED)
    return Judgement((*problems, *told), (*unread, *always))


def _class_of(found: Mapping[str, Any] | None) -> tuple[VolatileRSEClassSpec | None, str]:
    if found is None:
        return None, ""
    try:
        return VolatileRSEClassSpec.model_validate(found["spec"]), ""
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        named = found["metadata"]["name"]
        return None, f"VolatileRSEClass {named}: its spec.{where} is wrong, or of another version than this command"


def _not_read(unread: Unreadable) -> str:
    return f"{unread.what}: you may not read it"


def _namespace(name: str, found: Mapping[str, Any] | Unreadable | None) -> Namespace:
    metadata = {} if found is None or isinstance(found, Unreadable) else found["metadata"]
    return Namespace(name, str(metadata.get("uid", "")), dict(metadata.get("labels") or {}))
