"""The data folder: recorded traces, measured runs and GPU profiles, which no package holds.

Nothing here is needed to simulate, train or benchmark; what needs a data set says so in one line.
The folder is ``AGENTSERVE_DATA`` where that is set, else ``data`` in the user's cache directory.
``agentserve data`` lists the data sets and what is there, ``agentserve data add`` puts one there.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import resources
from pathlib import Path
from types import MappingProxyType

import platformdirs

VARIABLE = "AGENTSERVE_DATA"
_PACKED = ".gz"


class State(StrEnum):
    """What lies in the data folder under a data set's name."""

    ABSENT = "absent"
    VERIFIED = "verified"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class DataSet:
    """A data set that the project knows.

    Attributes:
        name: by which it is asked for.
        kind: what it holds: ``programs``, ``fits``, ``profiles``, ``runs`` or ``router_runs``.
        what, source, licence: for people.
        path: relative to the data folder: a file, or for profiles and runs a folder.
        size_bytes: on disk, of the copy that the documents' numbers were computed with.
        checksums: of that copy: file, relative to
            ``path`` and without ``.gz`` -> SHA-256 of its unpacked content. For a single file the
            name is empty.
    """

    name: str
    kind: str
    what: str
    source: str
    licence: str
    path: str
    size_bytes: int
    checksums: Mapping[str, str]

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder of files rather than one file."""
        return "" not in self.checksums

    def location(self) -> Path:
        """Where it belongs, whether it is there or not."""
        return data_folder() / self.path

    def state(self) -> State:
        """Whether it is there, and whether it is the copy that the documents' numbers are from."""
        location = self.location()
        if not location.exists():
            return State.ABSENT
        same = all(
            checksum(location / name if name else location) == known
            for name, known in self.checksums.items()
        )
        return State.VERIFIED if same else State.OTHER


class MissingDataError(ValueError):
    """A data set is asked for that is not in the data folder."""


def data_folder() -> Path:
    """The folder of data sets; it need not exist."""
    named = os.environ.get(VARIABLE)
    return Path(named) if named else platformdirs.user_cache_path("agentserve") / "data"


@cache
def data_sets() -> Mapping[str, DataSet]:
    """Every data set that the project knows, by name."""
    text = resources.files("agentserve_gym").joinpath("datasets.toml").read_text(encoding="utf-8")
    known = {
        name: DataSet(name=name, **{**entry, "checksums": MappingProxyType(entry["checksums"])})
        for name, entry in tomllib.loads(text).items()
    }
    return MappingProxyType(known)


def find_data_set(name: str) -> Path | None:
    """Where a data set lies; ``None`` if it is absent.

    Raises:
        KeyError: for a name that is not in `data_sets`.
    """
    location = data_sets()[name].location()
    return location if location.exists() else None


def require_data_set(name: str) -> Path:
    """Where a data set lies.

    Raises:
        MissingDataError: saying what is missing and how it gets there.
    """
    found = find_data_set(name)
    if found is None:
        raise MissingDataError(missing(name))
    return found


def missing(name: str) -> str:
    """One line that says that a data set is missing, and where to read how it gets there."""
    return f"the data set {name} is not in {data_folder()} (agentserve data says where to get it)"


def checksum(path: Path) -> str | None:
    """SHA-256 of a file's unpacked content, also where the file has ``.gz`` added to its name;
    ``None`` where it is absent or damaged."""
    if not path.is_file():
        path = path.with_name(path.name + _PACKED)
    try:
        content = path.read_bytes()
        unpacked = gzip.decompress(content) if path.suffix == _PACKED else content
    except (OSError, EOFError):
        return None
    return hashlib.sha256(unpacked).hexdigest()
