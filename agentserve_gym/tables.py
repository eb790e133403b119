"""Tables: reading the TOML and JSON that people write, keys by their path, and writing TOML."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_MOST_BYTES = 64 * 1024**2


def read_text(path: Path) -> str:
    """The text of a file that somebody wrote; a byte-order mark in front is passed over.

    Raises:
        ValueError: naming the file that cannot be read, is no file, or is no UTF-8 text.
    """
    try:
        if path.exists() and not path.is_file():
            kind = "a folder" if path.is_dir() else "a device or pipe"
            raise ValueError(f"cannot read {path}: it is {kind}; a file is needed")
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(
                f"cannot read {path}: it has {path.stat().st_size:,} bytes; at most "
                f"{_MOST_BYTES:,} are allowed"
            )
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"cannot read {path}: byte {error.start} is not UTF-8 text") from error


def read_table(path: Path) -> dict[str, Any]:
    """The table in a ``.json`` file, or in a TOML file of any other name.

    Raises:
        ValueError: as ``read_text``, and naming the file that is not valid or holds no table.
    """
    text = read_text(path)
    kind, parse = ("JSON", json.loads) if path.suffix == ".json" else ("TOML", tomllib.loads)
    try:
        content = parse(text)
    except ValueError as error:
        raise ValueError(f"{path} is not valid {kind}: {error}") from error
    except RecursionError as error:
        raise ValueError(f"{path} is not valid {kind}: it is nested too deeply") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a table of keys, got {type(content).__name__}")
    return content


def set_key(values: dict[str, Any], key: str, value: Any) -> None:
    """Enter ``a.b`` into nested mappings.

    Raises:
        ValueError: if ``a`` is not a group there.
    """
    *groups, last = key.split(".")
    for group in groups:
        values = values.setdefault(group, {})
        if not isinstance(values, dict):
            raise ValueError(f"settings: cannot set {key!r}: {group!r} is not a group of settings")
    values[last] = value


def to_toml(table: Mapping[str, Any]) -> str:
    """A table as TOML, which the standard library only reads: values first, then sub-tables.

    A distribution (a table that names its ``family``) is a value, on one line.

    Raises:
        TypeError: for a value that TOML does not have, such as ``None``.
        ValueError: for a number that is not finite.
    """
    return "\n".join(_toml_lines(table, "")) + "\n"


def _toml_lines(table: Mapping[str, Any], path: str) -> list[str]:
    nested = {k: v for k, v in table.items() if isinstance(v, dict) and "family" not in v}
    lines = [f"{_toml_key(k)} = {toml_value(v)}" for k, v in table.items() if k not in nested]
    for key, value in nested.items():
        name = f"{path}.{_toml_key(key)}" if path else _toml_key(key)
        lines += ["", f"[{name}]", *_toml_lines(value, name)]
    return lines


def _toml_key(key: str) -> str:
    return key if key.replace("_", "").isalnum() else toml_value(key)


def toml_value(value: Any) -> str:
    """A value as TOML; a list of lists or tables has an item a line."""
    if isinstance(value, dict):
        items = (f"{_toml_key(key)} = {toml_value(item)}" for key, item in value.items())
        return "{ " + ", ".join(items) + " }"
    if isinstance(value, list | tuple):
        if value and isinstance(value[0], list | tuple | dict):
            return "[\n" + "".join(f"  {toml_value(item)},\n" for item in value) + "]"
        return "[" + ", ".join(map(toml_value, value)) + "]"
    if not isinstance(value, str | int | float):
        raise TypeError(f"TOML has no {type(value).__name__}: {value!r}")
    # Of strings, numbers and truth values, JSON's notation is TOML's.
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
