"""The build: pure Python, or with ``AGENTSERVE_COMPILE=1`` with the kernel compiled by mypyc.

What is compiled stands in ``pyproject.toml`` under ``tool.agentserve.compiled``. Everything else
about the package is there too.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import sysconfig
import tomllib
from importlib.metadata import version
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from setuptools import Distribution, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
PACKAGE = "agentserve_gym"
with (ROOT / "pyproject.toml").open("rb") as file:
    SETTINGS = tomllib.load(file)["tool"]["agentserve"]["compiled"]

# What mypyc may see: the compiled modules and no others, so that a build is the same with and
# without the libraries of the others.
MYPY_OPTIONS = (
    "--config-file=",
    "--strict",
    "--follow-imports=skip",
    "--no-site-packages",
    "--ignore-missing-imports",
)


def compiled() -> ModuleType:
    """``agentserve_gym/compiled.py``, without the package, whose libraries may not be here."""
    spec = spec_from_file_location("agentserve_compiled", ROOT / PACKAGE / "compiled.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def require_compiler() -> None:
    """End with one line where nothing can be compiled."""
    command = os.environ.get("CC") or sysconfig.get_config_var("CC")
    if command and shutil.which(shlex.split(command)[0]) is None:
        sys.exit(
            f"A C compiler is needed to compile the kernel, and {command} is missing; "
            "on Debian: sudo apt install build-essential"
        )
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        sys.exit(
            "Python.h is needed to compile the kernel, and missing; "
            "on Debian: sudo apt install python3-dev"
        )


class CompiledDistribution(Distribution):
    """Has extension modules before they are known: the compiler is asked for them when building."""

    def has_ext_modules(self) -> bool:
        return True


class BuildKernel(build_ext):
    """Compiles the kernel where the build there is does not fit the sources."""

    def finalize_options(self) -> None:
        self.set_undefined_options("build", ("build_lib", "build_lib"))
        module = compiled()
        sources = sorted(
            path.relative_to(ROOT).as_posix()
            for pattern in SETTINGS["modules"]
            for path in ROOT.glob(pattern)
            if path.name != "__init__.py"
        )
        self._target = Path(self.build_lib) / PACKAGE
        self._build = module.Build.of(f"mypyc {version('mypy')}", ROOT, sources)
        if module.Build.read(self._target) != self._build or self._build.unfit(self._target):
            require_compiler()
            shutil.rmtree(self._target / module.FOLDER, ignore_errors=True)
            self.distribution.ext_modules = self._extensions(module, sources)
        super().finalize_options()

    def run(self) -> None:
        if self.extensions:
            super().run()
            self._build.write(self._target)

    def _extensions(self, module: ModuleType, sources: list[str]) -> list[object]:
        from mypyc.build import mypycify

        os.chdir(ROOT)
        extensions = mypycify(
            [*MYPY_OPTIONS, *sources],
            opt_level="2",
            debug_level="0",
            group_name=module.LIBRARY.removesuffix("__mypyc"),
        )
        for extension in extensions:
            extension.name = f"{PACKAGE}.{module.FOLDER}.{extension.name}"
            if sys.platform != "win32":
                # A fused multiplication and addition would round once instead of twice.
                extension.extra_compile_args += ["-ffp-contract=off", "-Wno-error"]
        return extensions


if os.environ.get("AGENTSERVE_COMPILE") == "1":
    setup(
        cmdclass={"build_ext": BuildKernel},
        distclass=CompiledDistribution,
        # Asked for by the installer in advance; later, setuptools would fetch it by itself.
        setup_requires=SETTINGS["requires"] if "egg_info" in sys.argv else [],
    )
else:
    setup()
