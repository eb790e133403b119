"""On what was measured: processor and versions, nothing that names a place."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import agentserve_gym
from agentserve_gym.compiled import chosen, kernel
from agentserve_gym.report.page import current_commit
from benchmarks.measure import Value

KERNELS = ("compiled", "interpreted")

_LIBRARIES = (
    "agentserve-gym", "numpy", "simpy", "gymnasium", "pydantic", "torch", "stable-baselines3",
    "sb3-contrib",
)  # fmt: skip


class Machine(Value):
    """Processor, cores, Python, libraries (name to version; missing ones are left out), the commit
    that was measured, where there is one, and which kernel ran."""

    processor: str
    cores: int
    system: str
    python: str
    libraries: dict[str, str]
    commit: str | None = None
    kernel: str = "interpreted"

    @classmethod
    def here(cls) -> Machine:
        """This machine."""
        libraries = {}
        for name in _LIBRARIES:
            try:
                libraries[name] = version(name)
            except PackageNotFoundError:
                continue
        return cls(
            processor=_processor(),
            cores=os.cpu_count() or 1,
            system=f"{platform.system()} {platform.machine()}",
            python=platform.python_version(),
            libraries=libraries,
            commit=current_commit(),
            kernel=kernel(),
        )


def kernels() -> list[str]:
    """The kernels that can run: the compiled one only where a build fits the sources."""
    package = Path(agentserve_gym.__file__).parent
    return [name for name in KERNELS if name == "interpreted" or chosen(package, None)]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"
