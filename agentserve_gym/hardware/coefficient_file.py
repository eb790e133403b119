"""Coefficient files: the compact form of one case, with its source and its error, as TOML."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from agentserve_gym.files import write_file
from agentserve_gym.messages import validated
from agentserve_gym.tables import read_table, to_toml

from .coefficients import CompactCoefficients
from .precision import KvDtype


class CompactFile(CompactCoefficients):
    """The compact form, what it is for, where it comes from and how far it is off.

    ``provenance`` is ``fitted to measured tables`` or ``measured kernels, summed``. ``software``
    names the serving software of the catalogue whose kernels these are, where its host side is
    known and not in the numbers.
    """

    accelerator: str
    model: str
    tensor_parallel: int = Field(ge=1)
    kv_dtype: KvDtype = "bf16"
    software: str | None = None
    provenance: str
    source: str
    error: str


def read_compact_file(path: str | Path) -> CompactFile:
    """Read a coefficient file. Raises ValueError that names the file and the field."""
    return validated(CompactFile, read_table(Path(path)), str(path))


def write_compact_file(path: str | Path, file: CompactFile) -> None:
    """Write a coefficient file, whole or not at all: what it is for first, then the form.

    Raises:
        ValueError: the folder does not exist or cannot be written.
    """
    content = file.model_dump(exclude_none=True)
    own = CompactFile.model_fields.keys() - CompactCoefficients.model_fields.keys()
    ordered = {name: content[name] for name in sorted(content, key=lambda name: name not in own)}
    try:
        write_file(Path(path), to_toml(ordered))
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror}") from error
