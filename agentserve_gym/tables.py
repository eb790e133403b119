"""Reading the files that people write: TOML and JSON tables, with errors that name the file."""

from __future__ import annotations

import json
import tomllib
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
