"""An environment of its own for vLLM: the wheel alone and what its scheduler imports."""

from __future__ import annotations

import subprocess
from pathlib import Path

from benchmarks.peers.venv import set_up

FOLDER = Path(__file__).parent / ".venv-vllm"
_REQUIREMENTS = Path(__file__).parent / "requirements.txt"
_VERSION = "0.33.0"
_INSTALLS = (
    ["torch==2.13.0"],
    ["-r", str(_REQUIREMENTS)],
    ["--no-deps", f"vllm=={_VERSION}", "xgrammar==0.2.8", "apache-tvm-ffi==0.1.15.post2"],
)


def vllm_python(*, install: bool) -> Path:
    """The Python that has vLLM.

    Raises:
        ValueError: if it is absent and may not be installed, or cannot be; in one line.
    """
    return set_up(FOLDER, f"vllm=={_VERSION}", _INSTALLS, install=install)


def installed_version(python: Path) -> str:
    """vLLM's version there."""
    code = "from importlib.metadata import version; print(version('vllm'))"
    found = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True)
    return found.stdout.strip()
