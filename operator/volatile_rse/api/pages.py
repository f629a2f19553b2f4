"""Reference pages made from the models and reasons: ``python -m volatile_rse.api.pages DIRECTORY`` writes them."""

from __future__ import annotations

import ast
import inspect
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from volatile_rse.api.conditions import MEANINGS, REMEDIES, ClassCondition, ConditionType, Reason
from volatile_rse.api.crds import GROUP, KINDS, VERSION, Kind, structural

__all__ = ["docstrings", "kind_page", "reasons_page", "write"]

_NOTE = "<!-- Made by `make generate` from {source}: do not edit. -->"
_MODELS = "the models in operator/volatile_rse/api"
_CONDITIONS = "operator/volatile_rse/api/conditions.py"


def write(directory: Path) -> list[Path]:
    """Write the pages into a directory and give their paths."""
    pages = {directory / "reasons.md": reasons_page()}
    pages |= {directory / "kinds" / f"{kind.name.lower()}.md": kind_page(kind) for kind in KINDS}
    for path, text in pages.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return list(pages)


def reasons_page() -> str:
    """Tell what each condition means, and for each reason who must act and how."""
    meanings, of_class = docstrings(ConditionType), docstrings(ClassCondition)
    quiet = [reason for reason in Reason if reason not in REMEDIES]
    return _text(
        _NOTE.format(source=_CONDITIONS),
        "# Conditions and reasons",
        "## Conditions of a VolatileRSE",
        "Every condition is present from the operator's first visit.",
        _table(("condition", "meaning"), ((f"`{type_.value}`", meanings[type_.name]) for type_ in ConditionType)),
        "## Conditions of a VolatileRSEClass",
        "The operator tries every class each ten minutes. What fails is told here; no session waits for it.",
        _table(("condition", "meaning"), ((f"`{type_.value}`", of_class[type_.name]) for type_ in ClassCondition)),
        "## Reasons that name something wrong",
        "The message of the condition says what happened, and to which object.",
        _table(
            ("reason", "meaning", "who must act", "what to do"),
            (
                (f"`{reason.value}`", MEANINGS[reason], remedy.actor.value, remedy.action)
                for reason, remedy in REMEDIES.items()
            ),
        ),
        "## Reasons of the ordinary way",
        "Nobody needs to act on these.",
        _table(("reason", "meaning"), ((f"`{reason.value}`", MEANINGS[reason]) for reason in quiet)),
    )


def kind_page(kind: Kind) -> str:
    """List the fields of a kind, with types, defaults and descriptions."""
    scope = "in a namespace" if kind.scope == "Namespaced" else "for the whole cluster"
    parts = [("spec", structural(kind.spec))]
    if kind.status is not None:
        parts.append(("status", structural(kind.status)))
    sections = [section for name, schema in parts for section in (f"## {name}", *_section(kind, name, schema))]
    return _text(
        _NOTE.format(source=_MODELS),
        f"# {kind.name}",
        _about(kind),
        f"`{GROUP}/{VERSION}`, exists {scope}, short name `{kind.short}`.",
        *sections,
    )


def _about(kind: Kind) -> str:
    """Say what a kind is for: the first words of its module."""
    text = (inspect.getdoc(inspect.getmodule(kind.spec)) or "").removeprefix(f"{kind.name}: ")
    return text[:1].upper() + text[1:]


def _section(kind: Kind, name: str, schema: Mapping[str, Any]) -> Iterator[str]:
    others = {other.name: structural(other.spec)["properties"] for other in KINDS if other is not kind}
    yield _table(("field", "type", "default", "description"), _rows(schema, name, others))
    rules = [rule["message"] for rule in schema.get("x-kubernetes-validations", ())]
    if rules:
        yield "The API server enforces:"
        yield "\n".join(f"- {rule}" for rule in rules)


def _rows(node: Mapping[str, Any], path: str, others: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for name, child in node.get("properties", {}).items():
        where = f"{path}.{name}"
        default = "required" if name in node.get("required", ()) else _default(child)
        yield f"`{where}`", _type(child), default, _description(child, others)
        inner, suffix = (child["items"], "[]") if child.get("type") == "array" else (child, "")
        if _same_as(inner, others) is None:
            yield from _rows(inner, where + suffix, others)


def _type(node: Mapping[str, Any]) -> str:
    if "enum" in node:
        return " or ".join(f"`{value}`" for value in node["enum"])
    if node["type"] == "array":
        return f"list of {_type(node['items'])}"
    if isinstance(values := node.get("additionalProperties"), dict):
        return f"map of {_type(values)}"
    return str(node.get("format", node["type"]))


def _default(node: Mapping[str, Any]) -> str:
    # The defaults of an object stand beside its own fields.
    if "default" not in node or "properties" in node:
        return ""
    return f"`{json.dumps(node['default'])}`"


def _description(node: Mapping[str, Any], others: Mapping[str, Any]) -> str:
    said = [node["description"]] if "description" in node else []
    if "pattern" in node:
        rules = [rule["message"] for rule in node.get("x-kubernetes-validations", ())]
        said.append("; ".join([f"Format: `{node['pattern']}`", *rules]))
    if same := _same_as(node, others):
        said.append(f"Fields: the spec of [{same}]({same.lower()}.md).")
    return " ".join(said)


def _same_as(node: Mapping[str, Any], others: Mapping[str, Any]) -> str | None:
    """Name the kind whose spec a record repeats."""
    return next((name for name, fields in others.items() if node.get("properties") == fields), None)


def docstrings(class_: type) -> dict[str, str]:
    """Read the texts that stand below the members of a class: Python does not keep them."""
    (found,) = ast.parse(inspect.getsource(class_)).body
    body = found.body if isinstance(found, ast.ClassDef) else []
    texts: dict[str, str] = {}
    for member, text in pairwise(body):
        match member, text:
            case (
                ast.Assign(targets=[ast.Name(id=name)]),
                ast.Expr(value=ast.Constant(value=str(said))),
            ):
                texts[name] = " ".join(said.split())
    return texts


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _text(*blocks: str) -> str:
    return "\n\n".join(blocks) + "\n"


if __name__ == "__main__":
    for written in write(Path(sys.argv[1])):
        print(written)  # noqa: T201 - a command
