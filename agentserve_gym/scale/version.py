"""Which version of the package a process has, to the last line."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import agentserve_gym

PACKAGE = Path(agentserve_gym.__file__).parent
"""The package's folder."""

_ENDINGS = (".py", ".toml", ".json")


def package_contents(
    room: str = "", endings: tuple[str, ...] = _ENDINGS, besides: str = "\n"
) -> Iterator[bytes]:
    """Names and contents of a room's files, except those whose names begin with ``besides``."""
    for path in sorted((PACKAGE / room).rglob("*")):
        name = path.relative_to(PACKAGE).as_posix()
        if path.suffix in endings and not name.startswith(besides):
            yield name.encode("utf-8")
            yield path.read_bytes()


@cache
def package_version() -> str:
    """The package's version, and a short fingerprint of everything in it that is read or run.

    Both kernels give the same results, so which of them runs makes no difference.
    """
    mark = hashlib.sha256()
    for content in package_contents(besides="_compiled/"):
        mark.update(content)
    return f"agentserve-gym {agentserve_gym.__version__}, code {mark.hexdigest()[:10]}"
