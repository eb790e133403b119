"""Coefficient files: the compact form of one case, with its source and its error, as TOML."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

from agentserve_gym.files import write_file
from agentserve_gym.messages import explain
from agentserve_gym.tables import read_table

from .coefficients import CompactCoefficients


class CompactFile(CompactCoefficients):
    """The compact form, what it is for, where it comes from and how far it is off.

    ``provenance`` is ``fitted to measured tables`` or ``measured kernels, summed``.
    """

    accelerator: str
    model: str
    tensor_parallel: int = Field(ge=1)
    provenance: str
    source: str
    error: str


def read_compact_file(path: str | Path) -> CompactFile:
    """Read a coefficient file. Raises ValueError that names the file and the field."""
    content = read_table(Path(path))
    try:
        return CompactFile.model_validate(content)
    except ValidationError as error:
        raise ValueError(explain(error, str(path), CompactFile, content)) from error


def write_compact_file(path: str | Path, file: CompactFile) -> None:
    """Write a coefficient file, whole or not at all.

    Raises:
        ValueError: the folder does not exist or cannot be written.
    """
    lines = _table(file, "")
    try:
        write_file(Path(path), "\n".join(lines).lstrip("\n") + "\n")
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror}") from error


def _table(values: BaseModel, heading: str) -> list[str]:
    """TOML lines of one table: first its values (head of the file first), then its tables."""
    plain: list[str] = []
    nested: list[str] = []
    own = CompactFile.model_fields.keys() - CompactCoefficients.model_fields.keys()
    names = list(type(values).model_fields)
    for name in sorted(names, key=lambda n: n not in own):
        value = getattr(values, name)
        if isinstance(value, BaseModel):
            nested += _table(value, f"{heading}.{name}" if heading else name)
        elif value is not None:
            plain.append(f"{name} = {_toml(value)}")
    opening = ["", f"[{heading}]"] if heading else []
    return opening + plain + nested


def _toml(value: object) -> str:
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    if isinstance(value, tuple):
        if value and isinstance(value[0], tuple):
            return "[\n" + "".join(f"  {_toml(row)},\n" for row in value) + "]"
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return repr(value)
