"""Which kernel runs: what imports find, and that a build never runs in place of newer sources."""

from __future__ import annotations

import os
import sys
import warnings
from importlib import import_module
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader
from pathlib import Path

import pytest
from compiled_helpers import MODULES

from agentserve_gym.compiled import (
    FOLDER,
    LIBRARY,
    VARIABLE,
    Build,
    chosen,
    kernel,
    running,
)


@pytest.mark.parametrize("name", MODULES)
def test_every_listed_module_runs_as_reports_say(name: str) -> None:
    module = import_module(name)
    assert isinstance(module.__loader__, ExtensionFileLoader) == (running() is not None)
    assert (LIBRARY in sys.modules) == kernel().startswith("compiled (mypyc ")


def test_the_kernel_that_was_asked_for_runs() -> None:
    wanted = os.environ.get(VARIABLE)
    assert wanted is None or kernel().startswith(wanted)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package of one source, with what a build leaves there."""
    package = tmp_path / "house"
    folder = package / FOLDER
    (folder / "house").mkdir(parents=True)
    (package / "room.py").write_text("WALLS = 4\n", encoding="utf-8")
    build = Build.of("mypyc 1.0", tmp_path, ["house/room.py"])
    for file in build.modules(package).values():
        file.write_bytes(b"")
    build.write(package)
    return package


def test_a_build_of_the_sources_runs_unless_refused(package: Path) -> None:
    build = chosen(package, None)
    assert build is not None
    assert build.compiler == "mypyc 1.0"
    assert set(build.modules(package)) == {LIBRARY, "house.room"}
    assert chosen(package, "compiled") == build
    assert chosen(package, "interpreted") is None


def test_line_ends_do_not_make_a_build_unfit(package: Path) -> None:
    (package / "room.py").write_bytes(b"WALLS = 4\r\n")
    assert chosen(package, "compiled") is not None


def edit(package: Path) -> None:
    (package / "room.py").write_text("WALLS = 5\n", encoding="utf-8")


def remove_source(package: Path) -> None:
    (package / "room.py").unlink()


def remove_module(package: Path) -> None:
    (package / FOLDER / "house" / f"room{EXTENSION_SUFFIXES[0]}").unlink()


def move_to_another_python(package: Path) -> None:
    Build("mypyc 1.0", ".cpython-27.so", {}).write(package)


UNFIT = {
    "was built from another house/room.py": edit,
    "was built from another house/room.py ": remove_source,
    "lacks room.": remove_module,
    "was built for another Python (.cpython-27.so)": move_to_another_python,
}


@pytest.mark.parametrize("reason", UNFIT)
def test_an_unfit_build_does_not_run_and_says_so(reason: str, package: Path) -> None:
    UNFIT[reason](package)
    with pytest.warns(RuntimeWarning) as caught:
        assert chosen(package, None) is None
    assert reason.strip() in str(caught[0].message)
    assert "`make compiled`" in str(caught[0].message)
    with pytest.raises(ImportError) as error:
        chosen(package, "compiled")
    assert reason.strip() in str(error.value)
    with warnings.catch_warnings(action="error"):
        assert chosen(package, "interpreted") is None


@pytest.mark.parametrize("content", [None, "", "[]", '{"compiler": "mypyc"}'])
def test_without_a_record_the_sources_run(content: str | None, package: Path) -> None:
    record = package / FOLDER / "build.json"
    if content is None:
        record.unlink()
    else:
        record.write_text(content, encoding="utf-8")
    assert chosen(package, None) is None
    with pytest.raises(ImportError, match="nothing is: run `make compiled`"):
        chosen(package, "compiled")


def test_an_unknown_kernel_is_refused(package: Path) -> None:
    with pytest.raises(ImportError, match="is 'fast'; allowed: compiled, interpreted"):
        chosen(package, "fast")
