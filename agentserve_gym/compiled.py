"""Which kernel runs: the sources, or extension modules that mypyc compiled from them.

`make compiled`, or a wheel built with ``AGENTSERVE_COMPILE=1``, leaves extension modules and a
record of the sources they were compiled from in ``_compiled``, away from the sources, where Python
does not find them by itself. They run if every recorded source is as it was; otherwise the sources
run, and a warning says so: a build never runs in the place of newer sources.

``AGENTSERVE_KERNEL`` decides by name: ``interpreted`` runs the sources, ``compiled`` fails where
no build fits them.

The build reads this file by its path, before the package can be imported: standard library only.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

VARIABLE = "AGENTSERVE_KERNEL"
FOLDER = "_compiled"
LIBRARY = "agentserve_kernel__mypyc"
"""The extension module that holds the code; one small module per source takes it from there."""

_RECORD = "build.json"
_CHOICES = ("compiled", "interpreted")
_WAYS_OUT = "`make compiled` builds it again, `make interpreted` removes it"


@dataclass(frozen=True)
class Build:
    """A record of what was compiled.

    Attributes:
        compiler: name and version.
        suffix: of extension modules, which names the Python they are for.
        sources: SHA-256 of every compiled source, by its path from the package's parent.
    """

    compiler: str
    suffix: str
    sources: dict[str, str]

    @classmethod
    def of(cls, compiler: str, root: Path, sources: Iterable[str]) -> Build:
        """What a build for this Python from the sources as they are now would be.

        Args:
            compiler: name and version.
            root: the package's parent.
            sources: paths from there.
        """
        return cls(
            compiler, EXTENSION_SUFFIXES[0], {name: _digest(root / name) for name in sources}
        )

    @classmethod
    def read(cls, package: Path) -> Build | None:
        """The record in a package's folder, if there is one that can be read."""
        try:
            return cls(**json.loads((package / FOLDER / _RECORD).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, package: Path) -> None:
        """Leave the record in a package's folder, which has the extension modules already."""
        text = json.dumps(asdict(self), indent=1)
        (package / FOLDER / _RECORD).write_text(f"{text}\n", encoding="utf-8")

    def modules(self, package: Path) -> dict[str, Path]:
        """The extension modules by the names under which they are imported."""
        folder = package / FOLDER
        files = {LIBRARY: folder / f"{LIBRARY}{self.suffix}"}
        for source in self.sources:
            path = Path(source).with_suffix("")
            files[".".join(path.parts)] = folder / path.with_name(f"{path.name}{self.suffix}")
        return files

    def unfit(self, package: Path) -> str | None:
        """Why the build must not run in the place of the sources, or ``None`` if it may."""
        if self.suffix not in EXTENSION_SUFFIXES:
            return f"was built for another Python ({self.suffix})"
        for name, digest in self.sources.items():
            if _digest(package.parent / name) != digest:
                return f"was built from another {name}"
        missing = [file.name for file in self.modules(package).values() if not file.is_file()]
        return f"lacks {missing[0]}" if missing else None


class _Finder:
    """Finds the extension modules of a build."""

    def __init__(self, build: Build, package: Path) -> None:
        self.build = build
        self._files = build.modules(package)

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        file = self._files.get(fullname)
        if file is None:
            return None
        loader = ExtensionFileLoader(fullname, str(file))
        return spec_from_file_location(fullname, file, loader=loader)


def chosen(package: Path, wanted: str | None) -> Build | None:
    """The build that runs, or ``None`` where the sources run.

    Args:
        package: folder of the package.
        wanted: ``compiled``, ``interpreted``, or ``None`` for the build where it fits.

    Raises:
        ImportError: if ``wanted`` is another word, or ``compiled`` and no build fits the sources.
    """
    if wanted not in (*_CHOICES, None):
        raise ImportError(f"{VARIABLE} is {wanted!r}; allowed: {', '.join(_CHOICES)}")
    if wanted == "interpreted":
        return None
    build = Build.read(package)
    if build is None:
        if wanted == "compiled":
            raise ImportError(f"{VARIABLE} is compiled, but nothing is: run `make compiled`")
        return None
    reason = build.unfit(package)
    if reason is None:
        return build
    if wanted == "compiled":
        raise ImportError(f"{VARIABLE} is compiled, but the compiled kernel {reason}: {_WAYS_OUT}")
    warnings.warn(
        f"the compiled kernel {reason}, so the interpreted one runs: {_WAYS_OUT}",
        RuntimeWarning,
        stacklevel=2,
    )
    return None


def install() -> None:
    """Let imports find the build that runs, if one does; see `chosen`."""
    package = Path(__file__).parent
    build = chosen(package, os.environ.get(VARIABLE) or None)
    if build is not None:
        sys.meta_path.insert(0, _Finder(build, package))


def running() -> Build | None:
    """The build that runs in this process; ``None`` if the sources do."""
    found = (finder.build for finder in sys.meta_path if isinstance(finder, _Finder))
    return next(found, None)


def kernel() -> str:
    """Which kernel runs, for reports: ``interpreted``, or ``compiled`` and by what."""
    build = running()
    return "interpreted" if build is None else f"compiled ({build.compiler})"


def _digest(file: Path) -> str:
    """SHA-256 of a source, whatever its line ends; of a missing one nothing that fits."""
    try:
        return sha256(file.read_bytes().replace(b"\r\n", b"\n")).hexdigest()
    except OSError:
        return "missing"
