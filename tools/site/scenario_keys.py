"""Every key of a scenario, from the models that check it."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from agentserve_gym.report.markdown import text_table
from agentserve_gym.sim import Scenario
from tools.site.docstrings import split

_NAMES = re.compile(r"^(\w+(?:, \w+)*): ", re.MULTILINE)
_BOUNDS = {
    "exclusiveMinimum": "above {}",
    "minimum": "at least {}",
    "exclusiveMaximum": "below {}",
    "maximum": "at most {}",
}


def page() -> str:
    """A section for each table of a scenario file, in the order of the file."""
    return "\n".join(_section(place, model) for place, model in _tables("", Scenario, set()))


def _tables(
    place: str, model: type[BaseModel], seen: set[type[BaseModel]]
) -> Iterator[tuple[str, type[BaseModel]]]:
    """A model and those of its fields, each once, with the place of its table."""
    if model in seen:
        return
    seen.add(model)
    yield place, model
    for name, field in model.model_fields.items():
        for inner in _models(field.annotation):
            yield from _tables(f"{place}.{name}" if place else name, inner, seen)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that an annotation names."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)


def _section(place: str, model: type[BaseModel]) -> str:
    prose, sections = split(inspect.getdoc(model) or "")
    meanings = dict(_meanings(next((part.text for part in sections), "")))
    schema = model.model_json_schema()
    # One that may contain itself is among the definitions.
    properties = schema.get("$defs", {}).get(model.__name__, schema)["properties"]
    kind = properties.get("kind", {}).get("const")
    heading = (f"`{place}`" if place else "The file") + (f', kind `"{kind}"`' if kind else "")
    lines = [["key", "allowed", "default", "meaning"]]
    for name, field in model.model_fields.items():
        meaning = meanings.get(name) or field.description or ""
        lines.append([f"`{name}`", _allowed(properties[name]), _default(field), meaning])
    if not any(line[-1] for line in lines[1:]):
        lines = [line[:-1] for line in lines]
    table = text_table(lines[0], lines[1:])
    return f"## {heading} {{ #{model.__name__.lower()} }}\n\n{prose}\n\n{table}"


def _meanings(text: str) -> Iterator[tuple[str, str]]:
    """Key -> meaning, of the attributes that a docstring lists."""
    _, *parts = _NAMES.split(text)
    for names, meaning in zip(parts[::2], parts[1::2], strict=True):
        for name in names.split(", "):
            yield name, " ".join(meaning.split())


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    value = field.default
    if value is None or isinstance(value, BaseModel):
        return ""
    return f"`{json.dumps(value)}`"


def _allowed(schema: dict[str, Any]) -> str:
    """What a JSON schema allows, in words."""
    if "$ref" in schema:
        return _table_link(schema["$ref"])
    if "const" in schema or "enum" in schema:
        values = schema.get("enum", [schema.get("const")])
        return ", ".join(f"`{json.dumps(value)}`" for value in values)
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        words = (_allowed(choice) for choice in choices if choice.get("type") != "null")
        return " or ".join(dict.fromkeys(words))
    if schema["type"] == "array":
        inner = schema.get("items") or {"type": "value"}
        return f"list of {_allowed(inner)}"
    if schema["type"] == "object":
        return f"table of {_allowed(schema['additionalProperties'])}"
    bounds = [text.format(_plain(schema[key])) for key, text in _BOUNDS.items() if key in schema]
    return ", ".join([schema["type"], *bounds])


def _table_link(reference: str) -> str:
    name = reference.rpartition("/")[2]
    return f"[{name}](#{name.lower()})"


def _plain(number: float) -> str:
    return f"{number:,.15g}"
