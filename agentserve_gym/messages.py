"""How messages about wrong input are put: one line with the field, its value and what is allowed.

The ground floor: nothing of this package is imported here.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

_MOST_SHOWN = 60
_MOST_ERRORS = 3
_MOST_NAMES = 20
_VALUE_ERROR = "Value error, "

Schema = dict[str, Any]
Model = TypeVar("Model", bound=BaseModel)


def shown(value: object) -> str:
    """A value as it is written in a message: never more than some letters of it."""
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN - 3]}..."


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for the known name that is nearest; empty if none is near."""
    written = {each.lower(): each for each in known}
    near = difflib.get_close_matches(name.lower(), list(written), n=1)
    return f"; did you mean {written[near[0]]!r}?" if near else ""


def unknown(kind: str, name: object, known: Iterable[str]) -> str:
    """A message about a name that is not among the known ones: the nearest, and what is allowed."""
    return f"unknown {kind} {shown(name)}{choices(str(name), known)}"


def choices(name: str, known: Iterable[str]) -> str:
    """The end of a message about a wrong name: the nearest known one, and what is allowed."""
    names = list(known)
    allowed = ", ".join(names[:_MOST_NAMES]) or "none"
    if len(names) > _MOST_NAMES:
        allowed += f" and {len(names) - _MOST_NAMES} more"
    return f"{did_you_mean(name, names) or ';'} allowed: {allowed}"


def validated(model: type[Model], content: object, where: str) -> Model:
    """What was read, as a model.

    Args:
        where: what was read: a file, or words such as ``settings``.

    Raises:
        ValueError: one line, as of `explain`.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise ValueError(explain(error, where, model, content)) from error


def explain(error: ValidationError, where: str, model: type[BaseModel], content: object) -> str:
    """What pydantic refused, in one line.

    Args:
        error: what ``model`` raised for ``content``.
        where: what was read.
    """
    items = error.errors(include_url=False)
    lines = [_explain(item, model, content) for item in items[:_MOST_ERRORS]]
    if len(items) > _MOST_ERRORS:
        lines.append(f"and {len(items) - _MOST_ERRORS} more")
    return f"{where}: {'; '.join(lines)}"


def _explain(item: Any, model: type[BaseModel], content: object) -> str:
    field = ".".join(_written(item["loc"], content))
    message = str(item["msg"])
    match item["type"]:
        case "extra_forbidden":
            *_, name = item["loc"]
            keys = _keys_at(model.model_json_schema(), item["loc"][:-1])
            return f"unknown key {field!r}{did_you_mean(str(name), keys) or _allowed(keys)}"
        case "missing":
            return f"{field} is missing"
        case "union_tag_not_found":
            discriminator = str(item["ctx"]["discriminator"]).strip("'")
            return f"{field}.{discriminator} is missing"
        case "union_tag_invalid":
            discriminator = str(item["ctx"]["discriminator"]).strip("'")
            tag, expected = item["ctx"]["tag"], item["ctx"]["expected_tags"]
            return f"{field}.{discriminator} is {shown(tag)}; allowed: {expected}"
        case "value_error" if not field or isinstance(item["input"], dict | BaseModel):
            # A rule about several fields, which its own text names.
            text = message.removeprefix(_VALUE_ERROR)
            return f"{field}: {text}" if field else text
        case "model_type" | "dict_type" | "model_attributes_type":
            return f"{field or 'the content'} is {shown(item['input'])}; allowed: a table of keys"
    return f"{field} is {shown(item['input'])}: {message.removeprefix(_VALUE_ERROR)}"


def _written(loc: tuple[int | str, ...], content: object) -> Iterator[str]:
    """The keys as the user wrote them: without the tags that pydantic puts in for unions."""
    for part in loc:
        if isinstance(content, dict) and part not in content and part in content.values():
            continue
        yield str(part)
        try:
            content = content[part]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            content = None


def _allowed(keys: list[str]) -> str:
    return f"; allowed: {', '.join(keys)}" if keys else ""


def _keys_at(schema: Schema, loc: tuple[int | str, ...]) -> list[str]:
    """Keys that are allowed at a place of a model's JSON schema."""
    places = list(_variants(schema, schema))
    for part in loc:
        places = [
            variant
            for place in places
            for child in _children(place, part)
            for variant in _variants(child, schema)
        ]
    return sorted({key for place in places for key in place.get("properties", {})})


def _variants(node: Schema, schema: Schema) -> Iterator[Schema]:
    """A node, or what its references and unions stand for."""
    if "$ref" in node:
        yield from _variants(schema["$defs"][str(node["$ref"]).rpartition("/")[2]], schema)
        return
    choices = [*node.get("anyOf", ()), *node.get("oneOf", ())]
    for choice in choices:
        yield from _variants(choice, schema)
    if not choices:
        yield node


def _children(node: Schema, part: int | str) -> Iterator[Schema]:
    """Where a key or position leads; a union's tag leads to the variant that has it."""
    properties: Schema = node.get("properties", {})
    if part in properties:
        yield properties[str(part)]
    elif isinstance(part, int) and "items" in node:
        yield node["items"]
    elif any(value.get("const") == part for value in properties.values()):
        yield node
    elif isinstance(node.get("additionalProperties"), dict):
        yield node["additionalProperties"]
